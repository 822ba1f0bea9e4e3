//! control

#[cfg(test)]
pub(crate) mod scratch;
