//! Checks that the types of `tokenry-api` can represent every body that `openapi.yaml` describes.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokenry_api::{
    ApiError, ChangedEmailToken, CreatedEcosystem, CreatedEnvironment, CreatedSession,
    CreatedShortcode, Ecosystem, EcosystemChange, EcosystemList, EmailTokenData, EmailTokenList,
    EmailTokenValueData, EndedEmailToken, EnvironmentList, ExchangedToken, Introspection, LogIn,
    MintedToken, NewEmailToken, NewSession, NewShortcode, NewToken, PasswordChange, Revoked,
    ServerMetadata, TokenChange, TokenList, TokenRecord, TypedShortcode, User, UserChange,
    UserList,
};

/// Parses a JSON body as the type that has the schema's name, and serializes the parsed value.
/// Returns the new JSON.
///
/// # Errors
/// No type has this name, the type cannot represent the body, or the type's `Debug` output contains
/// a secret.
pub fn rewritten(schema: &str, body: &str) -> Result<String, String> {
    let rewrite = match schema {
        "ApiError" => rewrite::<ApiError>,
        "ChangedEmailToken" => rewrite::<ChangedEmailToken>,
        "CreatedEcosystem" => rewrite::<CreatedEcosystem>,
        "CreatedEnvironment" => rewrite::<CreatedEnvironment>,
        "CreatedSession" => rewrite::<CreatedSession>,
        "CreatedShortcode" => rewrite::<CreatedShortcode>,
        "Ecosystem" => rewrite::<Ecosystem>,
        "EcosystemChange" => rewrite::<EcosystemChange>,
        "EcosystemList" => rewrite::<EcosystemList>,
        "EmailTokenData" => rewrite::<EmailTokenData>,
        "EmailTokenList" => rewrite::<EmailTokenList>,
        "EmailTokenValueData" => rewrite::<EmailTokenValueData>,
        "EndedEmailToken" => rewrite::<EndedEmailToken>,
        "EnvironmentList" => rewrite::<EnvironmentList>,
        "ExchangedToken" => rewrite::<ExchangedToken>,
        "Introspection" => rewrite::<Introspection>,
        "LogIn" => rewrite::<LogIn>,
        "MintedToken" => rewrite::<MintedToken>,
        "NewEmailToken" => rewrite::<NewEmailToken>,
        "NewSession" => rewrite::<NewSession>,
        "NewShortcode" => rewrite::<NewShortcode>,
        "NewToken" => rewrite::<NewToken>,
        "PasswordChange" => rewrite::<PasswordChange>,
        "Revoked" => rewrite::<Revoked>,
        "ServerMetadata" => rewrite::<ServerMetadata>,
        "TokenChange" => rewrite::<TokenChange>,
        "TokenList" => rewrite::<TokenList>,
        "TokenRecord" => rewrite::<TokenRecord>,
        "TypedShortcode" => rewrite::<TypedShortcode>,
        "User" => rewrite::<User>,
        "UserChange" => rewrite::<UserChange>,
        "UserList" => rewrite::<UserList>,
        _ => return Err(format!("tokenry-api has no type {schema}")),
    };
    rewrite(body).map_err(|problem| format!("tokenry-api's {schema}: {problem}"))
}

fn rewrite<T: Debug + DeserializeOwned + Serialize>(body: &str) -> Result<String, String> {
    let json = |error: serde_json::Error| error.to_string();
    let value: T = serde_json::from_str(body).map_err(json)?;
    let shown = format!("{value:?}");
    let secrets = secrets(&serde_json::from_str(body).map_err(json)?);
    if secrets.iter().any(|secret| shown.contains(secret)) {
        return Err(format!(
            "the type's Debug output contains a secret: {shown}"
        ));
    }
    serde_json::to_string(&value).map_err(json)
}

/// Returns the tokens, codes and passwords in a body.
fn secrets(body: &Value) -> Vec<String> {
    match body {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                (
                    "token" | "shortcode" | "password" | "currentPassword" | "newPassword",
                    Value::String(text),
                ) => vec![text.clone()],
                _ => secrets(value),
            })
            .collect(),
        Value::Array(elements) => elements.iter().flat_map(secrets).collect(),
        _ => Vec::new(),
    }
}
