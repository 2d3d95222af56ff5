//! Parses whole numbers in requests.

/// The reason why a text is not a number in the allowed range. `String::from` converts the reason
/// to the message for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInRange {
    /// The text is not a whole number that is written with ASCII digits only.
    NotANumber,
    /// The number is zero or negative.
    NotPositive,
    /// The number is greater than this maximum.
    MoreThan(u64),
}

impl From<NotInRange> for String {
    fn from(problem: NotInRange) -> Self {
        match problem {
            NotInRange::NotANumber => "expected field to be a number".to_owned(),
            NotInRange::NotPositive => "field must be a positive number".to_owned(),
            NotInRange::MoreThan(max) => format!("field must be at most {max}"),
        }
    }
}

/// Parses a whole number from 1 to `max`. The text must contain only ASCII digits. Leading zeros
/// are allowed.
///
/// # Errors
/// The text is not a whole number from 1 to `max`.
pub fn positive(text: &str, max: u32) -> Result<u32, NotInRange> {
    let number = positive_long(text, max.into())?;
    u32::try_from(number).map_err(|_| NotInRange::MoreThan(max.into()))
}

/// Parses a whole number from 1 to `max` like [`positive`], but as a `u64`.
///
/// # Errors
/// The text is not a whole number from 1 to `max`.
pub fn positive_long(text: &str, max: u64) -> Result<u64, NotInRange> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotInRange::NotANumber);
    }
    match digits.parse::<u64>() {
        _ if negative => Err(NotInRange::NotPositive),
        Ok(0) => Err(NotInRange::NotPositive),
        Ok(number) if number <= max => Ok(number),
        // The text contains only digits, so parsing fails only if the number is too large for a
        // `u64`.
        Ok(_) | Err(_) => Err(NotInRange::MoreThan(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_ascii_digits_is_not_a_number() {
        for text in [
            "", "-", "+1", "1.5", "1e9", "3600 ", " 3600", "９", "0x10", "1_000", "NaN", "--1",
        ] {
            assert_eq!(positive(text, 10), Err(NotInRange::NotANumber), "{text:?}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_rejected_even_if_it_has_5000_digits() {
        for text in ["0", "00", "-0", "-1", "-99999999999999999999"] {
            assert_eq!(positive(text, 10), Err(NotInRange::NotPositive), "{text:?}");
        }
        for text in ["11", "4294967296", "9223372036854775808", &"9".repeat(5000)] {
            assert_eq!(
                positive(text, 10),
                Err(NotInRange::MoreThan(10)),
                "{text:?}"
            );
        }
        assert_eq!(positive("1", 10), Ok(1));
        assert_eq!(positive("0010", 10), Ok(10));
    }
}
