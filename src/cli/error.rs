//! What a command could not do, and the exit code for it.

use std::fmt;

use crate::control::client::ClientError;

/// How an error begins that wants to name the socket.
pub(super) const NO_TALK: &str = "cannot talk to keepup";

/// What a command could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Whose fault it is.
    pub kind: Kind,
    /// What, in words: `cannot …`.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for did not come about, or is not well.
    Failed,
    /// The system did not let us.
    System,
    /// The command line says something that cannot be.
    Usage,
    /// There is no service of this name.
    Unknown,
    /// A file that cannot be read, or has problems, which say themselves what they are.
    File,
    /// The command line has problems, which say so, too.
    Line,
    /// No keepup listens at the socket.
    Nobody,
    /// The command of a plain init could not be run, which has this exit code.
    NotRun(u8),
    /// Nobody reads the output any more; nothing is said about it.
    Unread,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Kind::Unread => 0,
            Kind::Failed | Kind::System => 1,
            Kind::Usage | Kind::Unknown | Kind::Line => 2,
            Kind::File => 3,
            Kind::Nobody => 5,
            Kind::NotRun(code) => code,
        }
    }
}

impl Error {
    /// Without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: None }
    }

    /// With what can be done about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Error {
        Error { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Error {
    /// As it is printed, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::File | Kind::Line => f.write_str(&self.message)?,
            Kind::Failed
            | Kind::System
            | Kind::Usage
            | Kind::Unknown
            | Kind::Nobody
            | Kind::NotRun(_)
            | Kind::Unread => write!(f, "error: {}", self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Error {
        let message = format!("{NO_TALK}: {error}");
        match error {
            ClientError::Nobody(_) => Error::new(Kind::Nobody, message)
                .hint("is it running? `-c FILE` or `--socket PATH` says which keepup is meant"),
            ClientError::Denied(_) => Error::new(Kind::Failed, message)
                .hint("root and keepup's own user may; `control_group` lets a group in"),
            ClientError::Broken(_) => Error::new(Kind::Failed, message),
        }
    }
}
