//! Reads what is stored about one user, for an export.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};

use super::{
    EMAIL_TOKEN_ITEM, Entry, Identity, Key, OWNER_ITEM, PARTITION_KEY, PASSWORD_ITEM, SORT_KEY,
};
use crate::{
    domain::{
        error::Result,
        id::AccountId,
        owner::{OwnerKey, User},
        token::TokenId,
    },
    store::item::{Item, present},
};

impl Identity {
    /// Reads everything that is stored about a user: a JSON object with a member for each kind of
    /// item. It contains no secret: neither hashes nor encrypted values.
    pub(crate) async fn export(&self, user: &User, account: Option<&AccountId>) -> Result<Value> {
        let owner: OwnerKey = (&user.id).into();
        let mut export = Map::new();
        let (mut tokens, mut others, mut start) = (Vec::new(), Vec::new(), None);
        loop {
            let query = self.query_all(owner)?.set_exclusive_start_key(start);
            let output = query.send().await?;
            let items = present(output.items)?;
            for item in items {
                let sort_key = item.get(SORT_KEY).and_then(|key| key.as_s().ok());
                match sort_key.map_or("", String::as_str) {
                    OWNER_ITEM => export.insert("user".to_owned(), record(item)),
                    PASSWORD_ITEM => export.insert("password".to_owned(), record(item)),
                    EMAIL_TOKEN_ITEM => export.insert("emailToken".to_owned(), record(item)),
                    key if key.starts_with(TokenId::ITEM_PREFIX) => {
                        tokens.push(record(item));
                        None
                    }
                    _ => {
                        others.push(record(item));
                        None
                    }
                };
            }
            start = output.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        export.insert("tokens".to_owned(), tokens.into());
        export.insert("others".to_owned(), others.into());
        for (name, key) in [
            (
                "address",
                user.email
                    .as_ref()
                    .map(|email| Key::address(account, email)),
            ),
            (
                "environment",
                user.environment.as_ref().map(Key::environment),
            ),
            ("listEntry", Some(Entry::of_user(user).key().clone())),
        ] {
            if let Some(key) = key
                && let Some(item) = self.get(&key).await?
            {
                export.insert(name.to_owned(), record(item));
            }
        }
        Ok(export.into())
    }
}

/// Returns an item as JSON, without its partition key, its bytes and the hash of a password. All
/// other secrets are bytes. The sort key tells tokens apart, so it stays.
fn record(mut item: Item) -> Value {
    item.remove(PARTITION_KEY);
    item.remove("password_hash");
    object(item)
}

fn object(item: Item) -> Value {
    let members = item.into_iter().filter_map(|(name, value)| {
        let value = match value {
            // Metadata is stored as JSON text.
            AttributeValue::S(text) if name == "metadata" => serde_json::from_str(&text).ok()?,
            value => json(value)?,
        };
        Some((name, value))
    });
    Value::Object(members.collect())
}

fn json(value: AttributeValue) -> Option<Value> {
    Some(match value {
        AttributeValue::S(text) => text.into(),
        AttributeValue::N(number) => serde_json::from_str(&number).ok()?,
        AttributeValue::Bool(truth) => truth.into(),
        AttributeValue::L(list) => list.into_iter().filter_map(json).collect(),
        AttributeValue::M(members) => object(members),
        _ => return None,
    })
}
