//! The result, as toolstacks read it. What the guest's configuration says must not be taken for more than a command line
//! (XSA-198, CVE-2016-9379 and CVE-2016-9380).

use crate::options::Format;

/// How many bytes libxl takes in one item, with its name and without the NUL.
const ITEM: usize = 8191;

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The kernel's name on the host.
    pub kernel: String,
    pub ramdisk: Option<String>,
    pub args: String,
}

impl Output {
    /// The result's text.
    ///
    /// # Errors
    /// A text that says which item cannot be represented.
    pub fn text(&self, format: Format) -> Result<String, String> {
        let items = [
            ("kernel", Some(self.kernel.as_str())),
            ("ramdisk", self.ramdisk.as_deref()),
            (
                "args",
                Some(self.args.as_str()).filter(|args| !args.is_empty()),
            ),
        ];
        let mut text = String::new();
        if format == Format::Sxp {
            text.push_str("linux ");
        }
        for (name, value) in items {
            let Some(value) = value else {
                continue;
            };
            check(name, value)?;
            match format {
                Format::Sxp => text.push_str(&format!("({name} {})", quoted(value))),
                Format::Simple => text.push_str(&format!("{name} {value}\n")),
                Format::Simple0 => text.push_str(&format!("{name} {value}\0")),
            }
        }
        match format {
            Format::Sxp => {}
            Format::Simple => text.push('\n'),
            Format::Simple0 => text.push('\0'),
        }
        Ok(text)
    }
}

/// Whether an item may be written at all.
///
/// # Errors
/// A text that says why not.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) {
        return Err(format!("the {name} has a control character"));
    }
    if name.len() + 1 + value.len() > ITEM {
        return Err(format!("the {name} has {} bytes, too many", value.len()));
    }
    if value.trim().is_empty() {
        return Err(format!("the {name} is empty"));
    }
    Ok(())
}

/// A string of an S-expression, in Python's notation as pygrub has it. Parentheses and quotation marks in it are escaped, so that
/// even a reader that only counts them is not misled.
fn quoted(value: &str) -> String {
    let mut text = String::from("'");
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\'' => text.push_str("\\x27"),
            '"' => text.push_str("\\x22"),
            '(' => text.push_str("\\x28"),
            ')' => text.push_str("\\x29"),
            other => text.push(other),
        }
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn output(args: &str) -> Output {
        Output {
            kernel: "/run/k".to_owned(),
            ramdisk: Some("/run/r".to_owned()),
            args: args.to_owned(),
        }
    }

    #[test]
    fn the_formats_are_pygrubs() {
        let text = |format| output("ro quiet").text(format).expect("harmless");
        assert_eq!(
            text(Format::Sxp),
            "linux (kernel '/run/k')(ramdisk '/run/r')(args 'ro quiet')"
        );
        assert_eq!(
            text(Format::Simple),
            "kernel /run/k\nramdisk /run/r\nargs ro quiet\n\n"
        );
        assert_eq!(
            text(Format::Simple0),
            "kernel /run/k\0ramdisk /run/r\0args ro quiet\0\0"
        );
        let none = Output {
            ramdisk: None,
            ..output("")
        };
        assert_eq!(
            none.text(Format::Simple0).as_deref(),
            Ok("kernel /run/k\0\0")
        );
    }

    #[test]
    fn no_command_line_adds_an_item() {
        for args in [
            "a\0ramdisk /etc/shadow",
            "a\nkernel /etc/shadow",
            "\u{1b}[2J",
            "\u{7f}",
        ] {
            for format in [Format::Sxp, Format::Simple, Format::Simple0] {
                assert!(output(args).text(format).is_err(), "{args:?}");
            }
        }
        let evil = output("'))(kernel '/etc/shadow')(args \"x\" \\").text(Format::Sxp);
        let evil = evil.expect("escaped");
        assert_eq!(evil.matches(['(', ')']).count(), 6);
        assert_eq!(evil.matches('\'').count(), 6);
        assert!(output(&"x".repeat(8187)).text(Format::Simple0).is_err());
        assert!(output(&"x".repeat(8186)).text(Format::Simple0).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_the_command_line_is_there_are_three_items(args in "\\PC{0,100}") {
            if let Ok(text) = output(&args).text(Format::Simple0) {
                let items: Vec<&str> = text.split('\0').collect();
                let expected = if args.is_empty() { 4 } else { 5 };
                prop_assert_eq!(items.len(), expected);
            }
            if let Ok(text) = output(&args).text(Format::Sxp) {
                prop_assert_eq!(text.matches('(').count(), if args.is_empty() { 2 } else { 3 });
                prop_assert_eq!(text.matches('(').count(), text.matches(')').count());
            }
        }
    }
}
