//! Parses the `limit` of a page. Creates and parses the cursor, which says where the next page of a
//! list starts.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::domain::{
    email_token::ListKey,
    number::{self, NotInRange},
    owner::OwnerKey,
    token::TokenId,
};

/// The maximum and default length of a page.
pub const MAX_LIMIT: u32 = 100;

/// Parses the length of a page.
///
/// # Errors
/// The text is not a whole number from 1 to [`MAX_LIMIT`].
pub fn parse_limit(text: &str) -> Result<u32, NotInRange> {
    number::positive(text, MAX_LIMIT)
}

/// Returns the cursor of the page that starts after this token, in the list of this owner's tokens.
///
/// A cursor is opaque to clients and valid for this list only. It contains the token id, and 8
/// bytes of SHA-256 over the token id and the owner. The hash needs no key, because a cursor
/// contains no secret and grants no access.
pub fn cursor(owner: OwnerKey, id: TokenId) -> String {
    let hash = Sha256::new()
        .chain_update("tokens")
        .chain_update(owner.as_bytes())
        .chain_update(id.to_bytes())
        .finalize();
    let check = hash[..8]
        .iter()
        .fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let id = u128::from_be_bytes(id.to_bytes());
    format!(
        "{:0>22}{:0>11}",
        base62::encode_fmt(id),
        base62::encode_fmt(check)
    )
}

/// Parses a cursor for this owner's tokens.
///
/// # Errors
/// The text is not a cursor for this list. The error is the message for the client.
pub fn parse_cursor(text: &str, owner: OwnerKey) -> Result<TokenId, &'static str> {
    text.get(..22)
        .and_then(|id| base62::decode(id).ok())
        .map(|id| TokenId::from_bytes(id.to_be_bytes()))
        .filter(|id| cursor(owner, *id) == text)
        .ok_or("invalid cursor")
}

/// Returns the cursor of the page that starts after the position `place`, in a list of e-mail
/// tokens. `list` identifies the list.
pub fn list_key_cursor(list: &str, place: &ListKey) -> String {
    let hash = Sha256::digest(format!("email-tokens#{list}#{}", place.as_str()));
    BASE64_URL_SAFE_NO_PAD.encode([&hash[..8], place.as_str().as_bytes()].concat())
}

/// Parses a cursor for this list of e-mail tokens.
///
/// # Errors
/// The text is not a cursor for this list. The error is the message for the client.
pub fn parse_list_key_cursor(text: &str, list: &str) -> Result<ListKey, &'static str> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let place = bytes.get(8..).and_then(|place| str::from_utf8(place).ok());
    place
        .and_then(ListKey::parse)
        .filter(|place| list_key_cursor(list, place) == text)
        .ok_or("invalid cursor")
}

/// Returns the cursor of the page that starts after this id or name, in a list of ecosystems,
/// environments or users. `list` is the name of the list.
pub fn name_cursor(list: &str, name: &str) -> String {
    let hash = Sha256::digest(format!("names#{list}#{name}"));
    BASE64_URL_SAFE_NO_PAD.encode([&hash[..8], name.as_bytes()].concat())
}

/// Parses a cursor of a list of ecosystems, environments or users.
///
/// # Errors
/// The text is not a cursor for this list. The error is the message for the client.
pub fn parse_name_cursor(text: &str, list: &str) -> Result<String, &'static str> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let name = bytes.get(8..).and_then(|name| str::from_utf8(name).ok());
    // A longer name cannot be a sort key of DynamoDB.
    name.filter(|name| (1..=1024).contains(&name.len()) && name_cursor(list, name) == text)
        .map(str::to_owned)
        .ok_or("invalid cursor")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::EcosystemId;

    proptest! {
        #[test]
        fn a_cursor_is_valid_only_for_its_list_and_only_if_it_is_unchanged(
            id: [u8; 16],
            owner: [u8; 20],
            other: [u8; 20],
            at in 0..33_usize,
            to in "[0-9A-Za-z]",
        ) {
            let (owner, other) = (OwnerKey::from_bytes(owner), OwnerKey::from_bytes(other));
            let id = TokenId::from_bytes(id);
            let text = cursor(owner, id);
            prop_assert_eq!(parse_cursor(&text, owner), Ok(id));
            prop_assert!(owner == other || parse_cursor(&text, other).is_err());
            prop_assert!(parse_cursor(&text[..at], owner).is_err());
            let mut altered = text.clone();
            altered.replace_range(at..=at, &to);
            prop_assert!(altered == text || parse_cursor(&altered, owner).is_err());
        }

        #[test]
        fn a_list_key_cursor_is_valid_only_for_its_list_and_only_if_it_is_unchanged(
            user: [u8; 12],
            at: prop::sample::Index,
            to in "[0-9A-Za-z_-]",
        ) {
            let ecosystem = EcosystemId::parse("C58521fd8a5d9b5cc21987501").unwrap();
            let mut key = *OwnerKey::from(&ecosystem).as_bytes();
            key[8..].copy_from_slice(&user);
            let place = ListKey::parse(&format!("{ecosystem};{}", hex::encode(key))).unwrap();
            let text = list_key_cursor("one", &place);
            prop_assert_eq!(parse_list_key_cursor(&text, "one"), Ok(place));
            prop_assert!(parse_list_key_cursor(&text, "another").is_err());
            let at = at.index(text.len());
            prop_assert!(parse_list_key_cursor(&text[..at], "one").is_err());
            let mut altered = text.clone();
            altered.replace_range(at..=at, &to);
            prop_assert!(altered == text || parse_list_key_cursor(&altered, "one").is_err());
        }

        #[test]
        fn parsing_any_text_as_a_cursor_fails_without_a_panic(text in "\\PC*") {
            prop_assert!(parse_cursor(&text, OwnerKey::from_bytes([0; 20])).is_err());
            prop_assert!(parse_list_key_cursor(&text, "one").is_err());
            prop_assert!(parse_name_cursor(&text, "one").is_err());
        }

        #[test]
        fn a_name_cursor_is_valid_only_for_its_list_and_only_if_it_is_unchanged(
            name in "\\PC{1,256}",
            at: prop::sample::Index,
            to in "[0-9A-Za-z_-]",
        ) {
            let text = name_cursor("one", &name);
            prop_assert_eq!(parse_name_cursor(&text, "one"), Ok(name));
            prop_assert!(parse_name_cursor(&text, "another").is_err());
            let at = at.index(text.len());
            prop_assert!(parse_name_cursor(&text[..at], "one").is_err());
            let mut altered = text.clone();
            altered.replace_range(at..=at, &to);
            prop_assert!(altered == text || parse_name_cursor(&altered, "one").is_err());
        }
    }
}
