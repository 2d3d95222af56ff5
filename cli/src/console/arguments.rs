//! The parsers of option values.

use std::{ffi::OsStr, time::Duration};

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use tokenry_api::{ExpiryType, WhenFull};

/// Parses a duration, such as `90`, `90s`, `15m`, `12h` or `7d`, and returns its seconds.
pub(super) fn seconds<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(end);
    let of_unit = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    number
        .zip(of_unit)
        .and_then(|(number, of_unit)| number.checked_mul(of_unit))
        .and_then(|seconds| seconds.try_into().ok())
        .ok_or("must be a number of seconds, or a number with a unit: 90s, 15m, 12h or 7d")
}

/// Parses the time to wait for a response.
pub(super) fn timeout(text: &str) -> Result<Duration, &'static str> {
    match seconds(text)? {
        seconds @ 1..=86400 => Ok(Duration::from_secs(seconds)),
        _ => Err("must be 1s to 1d"),
    }
}

/// Returns the parser of an expiry type.
pub(super) fn expiry_type() -> impl TypedValueParser<Value = ExpiryType> {
    let names = AnyCase(&["Infinite", "FixedTtl", "SlidingTtl"]);
    names.try_map(|name| ExpiryType::parse(&name))
}

/// Returns the parser of what happens if a user has the maximum number of tokens.
pub(super) fn when_full() -> impl TypedValueParser<Value = WhenFull> {
    let names = AnyCase(&["reject", "revoke-oldest"]);
    names.try_map(|name| WhenFull::parse(&name))
}

/// Parses one of these names in any case, with or without `-` and `_` between the words. Returns
/// the name as it is in the list.
#[derive(Clone)]
struct AnyCase(&'static [&'static str]);

impl TypedValueParser for AnyCase {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        let letters = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let given = letters(&value.to_string_lossy());
        let name = self.0.iter().find(|name| letters(name) == given);
        let value = name.map_or(value, OsStr::new);
        PossibleValuesParser::new(self.0).parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}
