//! Whatever a service sends by `sd_notify`, a few plain words come out, and a status is one tame line.

#![no_main]

use keepup::core::event::News;
use keepup::os::ears::message::{Word, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let words = read(datagram);
    assert!(words.len() <= 16);
    for word in words {
        if let Word::News(News::Status(text)) = word {
            assert!(text.chars().count() <= 256 && !text.chars().any(char::is_control));
        }
    }
});
