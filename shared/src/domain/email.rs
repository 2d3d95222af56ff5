//! E-mail addresses, and their normal form. Two spellings of the same address have the same normal
//! form.

use std::fmt;

use email_address::{EmailAddress, Options};
use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use serde::{Deserialize, Serialize};

/// The maximum length of an address in bytes (RFC 5321 §4.5.3.1.3, without the angle brackets). The
/// limit applies to the address that was sent and to its normal form.
const MAX_LENGTH: usize = 254;
/// The maximum length of the local part, in bytes (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;

/// An e-mail address in two forms: the form that a client sent, for display, and the normal form,
/// for comparison.
///
/// `Debug` prints `***`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Email {
    given: String,
    normal: String,
}

impl Email {
    /// Parses an address of the form `local@domain` (RFC 5322 §3.4.1, with the characters of RFC
    /// 6532). The address must not contain a quoted local part, an address literal, a comment or
    /// white space.
    ///
    /// # Errors
    /// If the text is not an address of this form, the error is the message for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::read(text).ok_or("invalid email address")
    }

    fn read(text: &str) -> Option<Self> {
        let refused = |c: char| {
            c.is_whitespace() || c.is_control() || c == '"' || c == char::REPLACEMENT_CHARACTER
        };
        if text.len() > MAX_LENGTH || text.contains(refused) {
            return None;
        }
        let given = text;
        let nfc = ComposingNormalizer::new_nfc().normalize(given);
        let text = nfc.as_ref();
        // RFC 6532 §3.2 allows a non-ASCII character wherever a letter is allowed. The parser
        // accepts only some non-ASCII characters. So we pass the parser a copy of the text in which
        // an `x` replaces each non-ASCII character.
        let plain: String = text
            .chars()
            .map(|c| if c.is_ascii() { c } else { 'x' })
            .collect();
        let options = Options::default()
            .without_display_text()
            .without_domain_literal();
        EmailAddress::parse_with_options(&plain, options).ok()?;
        let (local_part, domain) = text.rsplit_once('@')?;
        let domain = idna::domain_to_ascii_strict(domain).ok()?;
        let local_part = folded(local_part);
        let normal = format!("{local_part}@{domain}");
        let fits = local_part.len() <= MAX_LOCAL_PART && normal.len() <= MAX_LENGTH;
        fits.then(|| Self {
            given: given.to_owned(),
            normal,
        })
    }

    /// Returns the address in the form that the client sent.
    pub fn as_given(&self) -> &str {
        &self.given
    }

    /// Returns the normal form. All spellings of one address have the same normal form. Different
    /// addresses have different normal forms.
    pub fn normal(&self) -> &str {
        &self.normal
    }
}

/// Returns a local part in NFC and in one case.
///
/// First converts each character to lower case, then applies simple case folding. `ς` and `Σ` both
/// become `σ`. `ß` stays different from `ss`, and `İ` stays different from `i`. NFC maps the Kelvin
/// sign to `K`, because Unicode treats the sign and the letter as the same character. NFC does not
/// change full-width letters.
fn folded(local_part: &str) -> String {
    let (cases, nfc) = (CaseMapper::new(), ComposingNormalizer::new_nfc());
    let lower = nfc.normalize(local_part);
    let folded: String = lower
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| cases.simple_fold(c))
        .collect();
    nfc.normalize(&folded).into_owned()
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        self.normal == other.normal
    }
}

impl Eq for Email {}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> String {
        Email::parse(text).expect(text).normal
    }

    #[test]
    fn spellings_of_one_address_have_the_same_normal_form() {
        for (one, other) in [
            ("bob@example.com", "Bob@Example.COM"),
            ("bob@m\u{fc}nchen.example", "bob@xn--mnchen-3ya.example"),
            ("bob@M\u{dc}NCHEN.example", "bob@mu\u{308}nchen.example"),
            ("bob@\u{ff45}xample.com", "bob@example.com"),
            ("ren\u{e9}@example.com", "RENE\u{301}@example.com"),
            // The Kelvin sign is the same as the letter K, in the local part and in the domain.
            ("\u{212a}elvin@example.com", "kelvin@example.com"),
            ("bob@\u{212a}elvin.com", "bob@kelvin.com"),
            ("\u{130}brahim@example.com", "i\u{307}brahim@example.com"),
            ("stra\u{df}e@example.com", "STRA\u{1e9e}E@example.com"),
            (
                "\u{3bf}\u{3b4}\u{3cc}\u{3c2}@example.com",
                "\u{39f}\u{394}\u{38c}\u{3a3}@example.com",
            ),
            ("\u{ff22}ob@example.com", "\u{ff42}ob@example.com"),
        ] {
            assert_eq!(normal(one), normal(other), "{one} {other}");
        }
    }

    #[test]
    fn different_addresses_have_different_normal_forms() {
        let addresses = [
            "i@example.com",
            "\u{130}@example.com",
            "\u{131}@example.com",
            "ss@example.com",
            "\u{df}@example.com",
            "b@example.com",
            "\u{ff42}@example.com",
            "e@example.com",
            "\u{e9}@example.com",
            "b.ob@example.com",
            "bob@example.com",
            "bob+1@example.com",
            "bob@ss.example",
            "bob@\u{df}.example",
            "bob@i.example",
            "bob@\u{131}.example",
        ];
        let normal: std::collections::HashSet<_> = addresses.into_iter().map(normal).collect();
        assert_eq!(normal.len(), addresses.len());
    }

    #[test]
    fn only_valid_addresses_are_accepted() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("bob@{}com", "a.".repeat(124));
        let huge = format!("bob@{}.com", "a".repeat(10_000));
        for text in [
            "",
            "bob",
            "@",
            "bob@",
            "@example.com",
            "bob@@example.com",
            "a@b@example.com",
            " bob@example.com",
            "bob@example.com ",
            "bob @example.com",
            "bob@exam ple.com",
            "bob\0@example.com",
            "bob@example.com\n",
            "bob\u{a0}@example.com",
            "\"bob\"@example.com",
            "<bob@example.com>",
            "Bob <bob@example.com>",
            "bob@[192.0.2.1]",
            ".bob@example.com",
            "bob.@example.com",
            "b..ob@example.com",
            "bob@example..com",
            "bob@-example.com",
            "bob@example.com.",
            "bob@exa_mple.com",
            "bob(comment)@example.com",
            "bob@xn--a.example",
            &long,
            &longer,
            &huge,
        ] {
            assert!(Email::parse(text).is_err(), "{text}");
        }
        for text in [
            "bob@localhost",
            "o'brien+tag@example.co.uk",
            "\u{6f22}@\u{6f22}.example",
        ] {
            assert!(Email::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_sent_with_more_than_254_bytes_is_invalid() {
        let start = format!("bob@{}", format!("{}.", "a".repeat(59)).repeat(4));
        let ending = |letter: &str| Email::parse(&format!("{start}{}", letter.repeat(10)));
        assert_eq!(ending("a").unwrap().normal().len(), 254);
        assert!(ending("aa").is_err());
        // This letter has three bytes in the address that is sent, but only one byte in the normal
        // form.
        assert!(ending("\u{ff41}").is_err());
    }

    #[test]
    fn an_address_does_not_show_in_debug_output() {
        let email = Email::parse("bob@example.com").unwrap();
        assert_eq!(format!("{email:?}"), "***");
    }

    proptest! {
        #[test]
        fn parsing_a_normal_form_does_not_change_it(local in "\\PC{1,12}", domain in "[a-zäßİK．A-Z0-9.]{1,12}") {
            if let Ok(email) = Email::parse(&format!("{local}@{domain}")) {
                let again = Email::parse(email.normal()).unwrap();
                prop_assert_eq!(again.normal(), email.normal());
                prop_assert!(email.normal().len() <= MAX_LENGTH);
            }
        }

        #[test]
        fn an_address_and_its_lower_case_spelling_have_the_same_normal_form(local in "\\PC{1,12}") {
            let given = format!("{local}@example.com");
            if let (Ok(one), Ok(lower)) = (Email::parse(&given), Email::parse(&given.to_lowercase())) {
                prop_assert_eq!(one.normal(), lower.normal());
            }
        }

        #[test]
        fn parsing_any_text_never_panics(text in "\\PC*") {
            let _ = Email::parse(&text);
        }
    }
}
