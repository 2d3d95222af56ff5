//! What each endpoint answers to whom it does not let in, as its row in [`ROWS`] says. An endpoint without a row fails
//! by its name.

use std::collections::BTreeSet;

use functions::endpoints;
use serde_json::json;
use tests::{Answer, Call, Service};

use crate::{
    ROWS, assert_forbidden, assert_unauthorized,
    consume_shortcode::code,
    create_email_token::{BOB, PASSWORD, ask, server, token_of_user, with_bob},
};

/// What an answer must be: its status, and of some its whole body.
pub(crate) struct Said(pub(crate) u16, pub(crate) &'static str);

/// Answers as if it did not exist.
pub(crate) const UNKNOWN: Said = Said(404, "");
pub(crate) const FORBIDDEN: Said = Said(403, "");
pub(crate) const INACTIVE: Said = Said(200, r#"{"active":false}"#);
pub(crate) const EMPTY_PAGE: Said = Said(200, r#"{"cursor":null,"data":[]}"#);

/// Who needs a credential, and what a wrong one gets.
pub(crate) enum Refusals {
    /// A 401 to none and to rubbish, and this to each of these.
    Needed {
        /// Another account.
        foreign: Said,
        /// A server of another ecosystem of this account.
        server: Said,
        /// A user, of the ecosystem but not the one that it is about.
        user: Said,
    },
    /// None is needed, and a wrong one changes nothing: what the first request gets, then a valid server of
    /// another ecosystem, which finds only what is in that, and all others.
    Open {
        first: u16,
        server: u16,
        others: u16,
    },
}

pub(crate) use Refusals::{Needed, Open};

/// The calls of the database that a request makes, in order, each with the capacity units that it consumes.
pub(crate) type Calls = &'static [(&'static str, f64)];

/// An endpoint's row: a request that succeeds, and what else there is to say of the endpoint.
pub(crate) struct Row {
    pub(crate) endpoint: &'static str,
    pub(crate) query: &'static str,
    /// A JSON object, or a form, in which `BOB`, `EMAIL`, `PASSWORD`, `TOKEN` and `CODE` stand for what exists.
    pub(crate) body: &'static str,
    pub(crate) refusals: Refusals,
    /// The status that the account itself gets.
    pub(crate) good: u16,
    /// What it costs whoever may make it: the account, or anybody.
    pub(crate) calls: Calls,
}

pub(crate) const fn row(
    endpoint: &'static str,
    body: &'static str,
    refusals: Refusals,
    good: u16,
    calls: Calls,
) -> Row {
    Row {
        endpoint,
        query: "",
        body,
        refusals,
        good,
        calls,
    }
}

/// What names an ecosystem in its path: the account sees whether it exists, the server may know nothing.
pub(crate) const IN_PATH: Refusals = Needed {
    foreign: UNKNOWN,
    server: FORBIDDEN,
    user: FORBIDDEN,
};

/// What is found by an address or an environment's id alone, which do not say whose they are.
pub(crate) const BY_ITSELF: Refusals = Needed {
    foreign: UNKNOWN,
    server: UNKNOWN,
    user: FORBIDDEN,
};

/// Whether an endpoint asks who is calling.
pub(crate) fn needs_credential(endpoint: &str) -> bool {
    let row = ROWS.iter().find(|row| row.endpoint == endpoint);
    row.is_none_or(|row| matches!(row.refusals, Needed { .. }))
}

#[test]
fn every_endpoint_has_its_row() {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.endpoint).collect();
    let endpoints: BTreeSet<_> = endpoints().map(|endpoint| endpoint.name).collect();
    assert_eq!(rows, endpoints);
    assert_eq!(rows.len(), ROWS.len(), "each once");
}

/// A row's request, to a service in which everything exists that it is about.
pub(crate) struct Case<'a> {
    row: &'a Row,
    pub(crate) service: Service,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    body: String,
}

impl<'a> Case<'a> {
    pub(crate) async fn new(row: &'a Row) -> Self {
        let (service, bob) = with_bob().await;
        let environment = service.environment(&service.ecosystem).await;
        let (server_token, _) = service.server_token(&service.ecosystem).await;
        let minted = service.mint(&bob, "").await.json();
        let token = minted["token"].as_str().expect("a token");
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        let email = json!({ "email": BOB });
        let made = ask(&service, "POST", &email).await;
        assert_eq!(made.status, 201, "{made:?}");
        if row.endpoint == "create-email-token" {
            let deleted = ask(&service, "DELETE", &email).await;
            assert_eq!(deleted.status, 200, "{deleted:?}");
        }

        let endpoint = endpoints().find(|endpoint| endpoint.name == row.endpoint);
        let endpoint = endpoint.expect("a row is of an endpoint");
        let of_server = endpoint.path.starts_with("/api/ecosystems");
        let id = if of_server {
            server_token.as_str()
        } else {
            minted["tokenId"].as_str().expect("an id")
        };
        let path = format!("{}{}", endpoint.path, row.query)
            .replace("{id}", &bob)
            .replace("{ecosystemId}", service.ecosystem.id.as_str())
            .replace("{environmentId}", &environment)
            .replace("{tokenId}", id)
            .replace("EMAIL", BOB);
        let body = row
            .body
            .replace("BOB", &bob)
            .replace("EMAIL", BOB)
            .replace("PASSWORD", PASSWORD)
            .replace("TOKEN", token)
            .replace("CODE", &code);
        let method = endpoint.method.as_str();
        Self {
            row,
            service,
            method,
            path,
            body,
        }
    }

    pub(crate) async fn send(&self, credential: Option<&str>) -> Answer {
        let mut request = self
            .service
            .request(self.method, &self.path)
            .body(self.body.clone());
        if let Some(credential) = credential {
            request = request.header("authorization", credential);
        }
        let content_type = match self.body.as_bytes() {
            [] => return self.service.send(request).await,
            [b'{', ..] => "application/json",
            _ => "application/x-www-form-urlencoded",
        };
        self.service
            .send(request.header("content-type", content_type))
            .await
    }

    /// The calls that the request makes.
    pub(crate) async fn calls(&self) -> Vec<Call> {
        let credential = match self.row.refusals {
            Needed { .. } => Some(&*self.service.account_token),
            Open { .. } => None,
        };
        self.service.database.take_calls();
        let answer = self.send(credential).await;
        assert!(answer.status < 300, "{}: {answer:?}", self.row.endpoint);
        self.service.database.take_calls()
    }

    /// What it says to a credential, and who has that.
    async fn says(&self, who: &str, credential: &str, expected: &Said) {
        let answer = self.send(Some(credential)).await;
        let name = self.row.endpoint;
        assert_eq!(answer.status, expected.0, "{name}, {who}: {answer:?}");
        if expected.0 == 403 {
            assert_forbidden(&answer);
        }
        if !expected.1.is_empty() {
            let body: serde_json::Value = serde_json::from_str(expected.1).expect("JSON");
            assert_eq!(answer.json(), body, "{name}, {who}");
        }
    }
}

#[tokio::test]
async fn no_credential_a_malformed_a_foreign_and_a_wrong_holders_get_what_the_row_says() {
    for row in ROWS {
        let case = Case::new(row).await;
        let service = &case.service;
        let (foreign, _) = service.another_account().await;
        let elsewhere = service.another_ecosystem().await;
        let elsewhere = server(service, &elsewhere).await;
        let eve = service.user("eve").await;
        let eve = token_of_user(service, &eve).await;
        let malformed = service.account_token.replace("tk_ai", "tk_as");

        let none = case.send(None).await;
        match &row.refusals {
            Needed {
                foreign: another_account,
                server,
                user,
            } => {
                assert_unauthorized(&none, "Bearer");
                let rubbish = case.send(Some(&malformed)).await;
                assert_unauthorized(&rubbish, r#"Bearer error="invalid_token""#);
                case.says("another account", &foreign, another_account)
                    .await;
                case.says("a server elsewhere", &elsewhere, server).await;
                case.says("another user", &eve, user).await;
            }
            Open {
                first,
                server,
                others,
            } => {
                assert_eq!(none.status, *first, "{}: {none:?}", row.endpoint);
                case.says("a server elsewhere", &elsewhere, &Said(*server, ""))
                    .await;
                let others = Said(*others, "");
                for credential in [&malformed, &foreign, &eve] {
                    case.says("whoever", credential, &others).await;
                }
            }
        }
        // The request was right, and none of them has changed what it is about.
        case.says("the account", &service.account_token, &Said(row.good, ""))
            .await;
    }
}
