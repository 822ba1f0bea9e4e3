//! Whatever stands in an env file, variables that a process can be given come out, or a line number.

#![no_main]

use keepup::os::env_file::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match parse(text) {
    Ok(variables) => {
        for (name, value) in variables {
            assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name:?}");
            assert!(!value.contains('\0'), "{value:?}");
        }
    }
    Err(bad) => {
        assert!((1..=text.split('\n').count()).contains(&bad.line), "{bad:?}");
        assert!(!bad.text.is_empty());
    }
});
