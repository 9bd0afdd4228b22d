//! What people call a device.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

/// What a person knows a device by: model, bus, unit.
///
/// It is put into words only when somebody reads it: a start with a hundred disks reads one of their names.
#[derive(Clone)]
pub struct Name(Arc<dyn fmt::Display + Send + Sync>);

impl Name {
    /// The name that `words` displays.
    pub fn new(words: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self(Arc::new(words))
    }

    /// The name of a device that says what it is and whose `place` people know: "QEMU HARDDISK (SATA port 1)".
    pub fn of_model(model: String, place: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self::new(fmt::from_fn(move |f| match model.as_str() {
            "" => place.fmt(f),
            model => write!(f, "{model} ({place})"),
        }))
    }

    /// Whether it begins with `start`, in capitals or not.
    pub fn starts_with(&self, start: &str) -> bool {
        let name = self.to_string();
        let beginning = name.as_bytes().get(..start.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(start.as_bytes()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Name {}

impl From<&'static str> for Name {
    fn from(words: &'static str) -> Self {
        Self::new(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_model_where_there_is_one() {
        let place = Name::from("SATA port 1");
        assert_eq!(
            Name::of_model("QEMU HARDDISK".into(), place.clone()).to_string(),
            "QEMU HARDDISK (SATA port 1)"
        );
        assert_eq!(Name::of_model(String::new(), place.clone()), place);
        assert!(
            place.starts_with("sata")
                && place.starts_with("")
                && !place.starts_with("SATA port 10")
        );
    }
}
