//! Fuzz targets for texts that are parsed as a whole: tokens, ids and cursors.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared::{
    domain::{
        email::Email,
        email_token::ListKey,
        id::{AccountId, EcosystemId, EnvironmentId, UserId, decode_path_parameter},
        number::{NotInRange, positive_long},
        owner::OwnerKey,
        shortcode::{ALPHABET, CodeSpace},
        time::Timestamp,
        token::{PlainToken, TokenId},
    },
    http::cursor::{
        cursor as cursor_of, list_key_cursor, parse_cursor, parse_limit, parse_list_key_cursor,
    },
};

/// Parses the text of a token. The parser must accept only valid texts, and a parsed token must
/// print the same text.
pub fn token(data: &[u8]) {
    token_text(&String::from_utf8_lossy(data));

    // Random bytes almost never have a correct checksum. So also make a text with a correct
    // checksum from these bytes, and parse this text.
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((head, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let head = (
        char::from(b"asux"[usize::from(head[0] % 4)]),
        char::from(b"ifsx"[usize::from(head[1] % 4)]),
    );
    let digit = |byte: &u8| char::from(digits[usize::from(*byte) % digits.len()]);
    let body: String = rest.iter().map(digit).chain(['0'; 77]).take(77).collect();
    let covered = format!("tk_{}{}_{body}", head.0, head.1);
    let sum = base62::encode_fmt(crc32fast::hash(covered.as_bytes()));
    let text = format!("{covered}{sum:0>6}");
    // 22 digits can encode a number that needs more than 16 bytes, and 11 digits a number that
    // needs more than 8 bytes. A text with such a number is not a token.
    let fits = |from: usize, to: usize, max: u128| {
        base62::decode(&body[from..to]).is_ok_and(|number| number <= max)
    };
    let whole = u128::MAX;
    let is_valid = head.0 != 'x'
        && head.1 != 'x'
        && fits(0, 22, whole)
        && fits(22, 44, whole)
        && fits(44, 66, whole)
        && fits(66, 77, u64::MAX.into());
    assert_eq!(
        token_text(&text),
        is_valid,
        "the parser and this test disagree about {text}"
    );
    for at in 0..text.len() {
        let mut other = text.clone().into_bytes();
        other[at] = if other[at] == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(other).expect("the token is ASCII");
        assert!(
            !token_text(&other),
            "a text with one changed character is accepted: {other}"
        );
    }
}

/// Returns whether a text is a token, and checks the properties of the token.
fn token_text(text: &str) -> bool {
    let Some(token) = PlainToken::parse(text) else {
        return false;
    };
    assert_eq!(token.reveal(), text);
    assert_eq!(text.len(), PlainToken::LENGTH);
    let (covered, sum) = text.split_at(PlainToken::LENGTH - 6);
    let checksum = base62::encode_fmt(crc32fast::hash(covered.as_bytes()));
    assert_eq!(format!("{checksum:0>6}"), sum);
    let id = token.id().to_string();
    assert_eq!(TokenId::parse(&id), Ok(token.id()));
    let again = PlainToken::parse(text).expect("the text is still a token");
    assert!(again.hashed() == token.hashed());
    assert!(again.owner() == token.owner());
    assert_eq!(format!("{token:?}"), "***");
    true
}

/// Parses ids and other short texts. The parsers must accept exactly the texts that the documented
/// rules allow, and a parsed id must print the same text.
pub fn ids(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let is_hex_id = |letter: char, text: &str| {
        text.strip_prefix(letter).is_some_and(|digits| {
            let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            digits.chars().count() == 24 && digits.chars().all(is_hex)
        })
    };
    let account = AccountId::parse(text);
    assert_eq!(account.is_ok(), is_hex_id('A', text));
    assert!(account.is_ok_and(|id| id.as_str() == text) || !is_hex_id('A', text));
    let ecosystem = EcosystemId::parse(text);
    assert_eq!(ecosystem.is_ok(), is_hex_id('C', text));
    let environment = EnvironmentId::parse(text);
    assert_eq!(environment.is_ok(), is_hex_id('E', text));

    let is_user = text.split_once(';').is_some_and(|(ecosystem, name)| {
        let refused = |c: char| c.is_control() || c.is_whitespace() || ";/?#%\\".contains(c);
        is_hex_id('C', ecosystem)
            && (1..=256).contains(&name.chars().count())
            && !name.contains(refused)
    });
    let user = UserId::parse(text);
    assert_eq!(user.is_ok(), is_user);
    if let Ok(user) = user {
        assert_eq!(user.as_str(), text);
        assert_eq!(user.is_short_code(), text[25..].starts_with(";short|"));
        // A REST API sends the encoded id to the function. An HTTP API sends the decoded id. Both
        // texts must give the same id.
        let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        for raw in [text, &encoded] {
            let decoded = decode_path_parameter(raw).expect("the parameter decodes to UTF-8");
            assert_eq!(UserId::parse(&decoded), Ok(user.clone()));
        }
    }
    if let Ok(id) = TokenId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(code) = CodeSpace::default().parse(text) {
        assert!(code.reveal().len() == 6 && code.reveal().chars().all(|c| ALPHABET.contains(c)));
        let again = CodeSpace::default().parse(code.reveal());
        assert!(again.is_some_and(|again| again.reveal() == code.reveal()));
    }
    if let Ok(email) = Email::parse(text) {
        let normal = Email::parse(email.normal()).expect("a normal form is a valid address");
        assert_eq!(normal.normal(), email.normal());
        assert_eq!(email.as_given(), text);
    }
    // Numbers up to u64::MAX are accepted, with any number of leading zeros. Greater numbers are
    // errors.
    let number = positive_long(text, u64::MAX);
    let expected = text.trim_start_matches('0').parse::<u64>().ok();
    let expected = expected.filter(|_| text.bytes().all(|c| c.is_ascii_digit()));
    assert_eq!(number.ok(), expected);
    assert!(
        number != Err(NotInRange::NotANumber)
            || !text.bytes().all(|c| c.is_ascii_digit())
            || text.is_empty()
    );
    let _ = Timestamp::parse(text);
}

/// Parses cursors. A cursor must be valid for only one list and have only one spelling. The parser
/// must return the position for which the cursor was created.
pub fn cursor(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let hex = hex::encode(data);
    let ecosystem = format!("C{hex:0<24.24}");
    let ecosystem = EcosystemId::parse(&ecosystem).expect("the id is valid");
    let user = UserId::parse(&format!("{ecosystem};{hex:0<8.64}")).expect("the id is valid");
    let (owner, other) = (OwnerKey::from(&user), OwnerKey::from(&ecosystem));
    let _ = parse_limit(text);

    if let Ok(id) = parse_cursor(text, owner) {
        assert_eq!(cursor_of(owner, id), text);
    }
    // Make a ULID. A ULID has 26 characters, and its first character is at most 7.
    let crockford = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |byte: &u8| char::from(crockford[usize::from(*byte % 32)]);
    let id: String = data.iter().map(digit).chain(['0'; 26]).take(25).collect();
    let id = TokenId::parse(&format!("7{id}")).expect("the id is a ULID");
    let made = cursor_of(owner, id);
    assert_eq!(parse_cursor(&made, owner), Ok(id));
    assert!(parse_cursor(&made, other).is_err());

    if let Ok(place) = parse_list_key_cursor(text, "list") {
        assert_eq!(list_key_cursor("list", &place), text);
    }
    if let Some(place) = ListKey::parse(text) {
        assert_eq!(place.as_str(), text);
    }
    let key = hex::encode(owner.as_bytes());
    let place = ListKey::parse(&format!("{ecosystem};{key}")).expect("the list key is valid");
    let made = list_key_cursor("list", &place);
    assert_eq!(parse_list_key_cursor(&made, "list"), Ok(place));
    assert!(parse_list_key_cursor(&made, "another").is_err());
}
