//! What is wrong with a value, before it is known where it stands.

/// What is wrong, as it follows the key's name ("must be …"), and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong and what was found.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(text: impl Into<String>) -> Wrong {
        Wrong { text: text.into(), hint: None }
    }

    pub(super) fn hinted(text: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { text: text.into(), hint: Some(hint.into()) }
    }
}

/// The word that was probably meant.
pub fn closest<'w>(written: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let written = written.to_lowercase().replace('-', "_");
    // Comparing costs the product of the lengths; no word of ours is nearly so long.
    if written.len() > 64 {
        return None;
    }
    let distance =
        |word: &str| strsim::damerau_levenshtein(&written, &word.to_lowercase().replace('-', "_"));
    let (word, distance) =
        words.into_iter().map(|word| (word, distance(word))).min_by_key(|it| it.1)?;
    (distance <= word.len().max(2) / 3).then_some(word)
}

/// "did you mean …?", or all the words there are.
pub(super) fn did_you_mean<'w>(
    written: &str,
    words: impl IntoIterator<Item = &'w str> + Clone,
) -> Option<String> {
    match closest(written, words.clone()) {
        Some(word) => Some(format!("did you mean `{word}`?")),
        None => one_of(words).map(|words| format!("known: {words}")),
    }
}

/// The words in a row, if they are few enough to read.
pub(super) fn one_of<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<String> {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    (1..=16).contains(&words.len()).then(|| words.join(", "))
}
