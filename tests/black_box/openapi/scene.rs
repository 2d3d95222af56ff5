//! Prepares a service and sends the request for each example response in `openapi.yaml`.

use functions::Endpoint;
use futures_util::future::join;
use serde_json::{Value, json};
use tests::{Answer, Event, Fault, Service, openapi::Part};

use super::{bodies, mistakes::broken};

/// The e-mail address of the user in the examples of `openapi.yaml`.
pub(super) const ADDRESS: &str = "bob@example.com";
const PASSWORD: &str = "correct horse battery";
/// The query of the requests that mint the user token and the server token. With this query, the
/// lists of tokens look like the examples.
const LAPTOP: &str = "expiryType=SlidingTtl&ttl=900&name=laptop";
/// The ids and the short code in the examples of `openapi.yaml`. They exist in no service.
const ECOSYSTEM: &str = "C58521fd8a5d9b5cc21987501";
const ENVIRONMENT: &str = "E58521fd8a5d9b5cc21987502";
const TOKEN_ID: &str = "01KDVDNAFMFDHADR9JK9PFNKW4";
const CODE: &str = "a6e-r7d";

/// A service that contains everything that the example requests refer to.
pub(super) struct Scene {
    pub(super) service: Service,
    /// The id of the user that the requests refer to.
    user: String,
    /// The token to introspect or revoke.
    token: String,
    /// A server token of the ecosystem.
    server_token: String,
    /// Pairs of an id in the examples and the service's id that replaces it.
    ids: Vec<(&'static str, String)>,
}

impl Scene {
    /// Prepares a service for an example response of an endpoint.
    pub(super) async fn of(endpoint: &Endpoint, status: &str, example: &str) -> Self {
        let service = Service::start().await;
        let ecosystem = service.ecosystem.id.as_str().to_owned();
        let mut scene = Self {
            user: format!("{ecosystem};bob"),
            token: String::new(),
            server_token: String::new(),
            ids: Vec::new(),
            service,
        };
        let unknown = if status == "404" { example } else { "" };

        let has_address = endpoint.path.starts_with("/_/") || example == "withAddress";
        let user = match endpoint.name {
            "log-in-with-password" | "create-session" => {
                json!({ "email": ADDRESS, "password": PASSWORD })
            }
            "change-password" => json!({ "password": PASSWORD }),
            _ if has_address && unknown != "address" => json!({ "email": ADDRESS }),
            _ => json!({}),
        };
        scene.put_user(&user).await;
        let to_ecosystem = |name| scene.event(name).parameter("ecosystemId", &ecosystem);
        let environment = scene.made(to_ecosystem("create-environment")).await;
        let user_token = scene
            .made(scene.event("create-user-token").query(LAPTOP))
            .await;
        let server_token = scene
            .made(to_ecosystem("create-server-token").query(LAPTOP))
            .await;
        scene.service.clock.advance(5);
        for token in [&user_token, &server_token] {
            let asking = scene
                .service
                .introspection(token["token"].as_str().unwrap());
            scene.made(asking).await;
        }
        let is_made = match endpoint.name {
            "create-email-token" => example != "live",
            "log-in-with-password" => example == "full",
            _ => false,
        };
        if has_address && !is_made && !["address", "token"].contains(&unknown) {
            let body = json!({ "email": ADDRESS }).to_string();
            scene
                .made(scene.event("create-email-token").json_body(&body))
                .await;
        }

        let of_environment = json!({ "environmentId": environment["id"] });
        let of_user = json!({ "userId": scene.user, "tokenExpiryType": "SlidingTtl" });
        let code_for = if ["ofUser", "full"].contains(&example) {
            of_user
        } else {
            of_environment
        };
        let code = scene
            .event("create-shortcode")
            .json_body(&code_for.to_string());
        let code = scene.made(code).await["shortcode"].clone();
        let asked = match example {
            "infinite" => {
                scene
                    .made(
                        scene
                            .event("create-user-token")
                            .query("expiryType=Infinite"),
                    )
                    .await
            }
            "ofServer" => scene.made(to_ecosystem("create-server-token")).await,
            "ofAccount" => json!({ "token": scene.service.account_token }),
            "ofCode" => {
                let body = json!({ "shortcode": code }).to_string();
                scene
                    .made(scene.event("consume-shortcode").json_body(&body))
                    .await
            }
            _ => user_token.clone(),
        };
        let of_server = endpoint.name.ends_with("-server-token");
        let named = if of_server {
            &server_token
        } else {
            &user_token
        };

        let known = [
            ("ecosystem", ECOSYSTEM, ecosystem.into()),
            ("environment", ENVIRONMENT, environment["id"].clone()),
            ("record", TOKEN_ID, named["tokenId"].clone()),
            ("shortcode", CODE, code),
        ];
        let ids = known.iter().filter(|(what, ..)| *what != unknown);
        let ids = ids.map(|(_, shown, id)| (*shown, id.as_str().unwrap().to_owned()));
        scene.ids = ids.collect();
        scene.token.push_str(asked["token"].as_str().unwrap());
        let server_token = server_token["token"].as_str().unwrap();
        scene.server_token.push_str(server_token);
        scene.service.database.take_calls();
        scene
    }

    /// Returns a request with the account's token and the user's id.
    fn event(&self, endpoint: &'static str) -> Event {
        Event::to(endpoint)
            .header("authorization", &self.service.account_token)
            .parameter("id", &self.user)
    }

    /// Sends a request that must succeed and returns the content of the response.
    async fn made(&self, event: Event) -> Value {
        let answer = event.send(&self.service.app).await;
        assert!(answer.status < 300, "{event:?}: {answer:?}");
        if answer.body.is_empty() {
            return Value::Null;
        }
        answer.content()
    }

    async fn put_user(&self, body: &Value) {
        let event = self.event("put-user").json_body(&body.to_string());
        self.made(event).await;
    }

    /// Returns the text with the ids of the service instead of the ids in the examples.
    pub(super) fn filled(&self, text: &str) -> String {
        let ids = self.ids.iter();
        ids.fold(text.to_owned(), |text, (shown, id)| text.replace(shown, id))
    }

    /// Returns a valid request to an endpoint. `name` is the name of an example request body or of
    /// an example response. If the endpoint has an example request body with this name, the request
    /// gets this body. Otherwise, the request gets the endpoint's first example request body, or no
    /// body if there is none. If `name` is `throughBackEnd`, the credential is a server token. For
    /// `whoami` and `change-password`, the credential is the user's token. Otherwise, it is the
    /// account's token.
    pub(super) fn request(&self, endpoint: &Endpoint, name: &str) -> Event {
        let credential = match name {
            "throughBackEnd" => &self.server_token,
            _ if ["whoami", "change-password"].contains(&endpoint.name) => &self.token,
            _ => &self.service.account_token,
        };
        let mut event = Event::to(endpoint.name).header("authorization", credential);
        for parameter in endpoint
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{'))
        {
            let parameter = parameter.trim_end_matches('}');
            let value = match parameter {
                "id" => format!("{ECOSYSTEM};bob"),
                "ecosystemId" => ECOSYSTEM.to_owned(),
                "environmentId" => ENVIRONMENT.to_owned(),
                _ => TOKEN_ID.to_owned(),
            };
            event = event.parameter(parameter, &self.filled(&value));
        }
        if endpoint.name == "get-email-token-value" {
            event = event.query(&format!("email={ADDRESS}"));
        }
        let bodies = bodies(&Part::operation(endpoint).unwrap());
        let named = bodies.iter().find(|(of, _)| of == name);
        match named.or_else(|| bodies.first()) {
            Some((_, body)) if body.get("token").is_some() => {
                event.form(&format!("token={}", self.token))
            }
            Some((_, body)) => event.json_body(&self.filled(&body.to_string())),
            None => event,
        }
    }

    /// Sends a request that gets this example response.
    pub(super) async fn answer(&self, endpoint: &Endpoint, status: &str, example: &str) -> Answer {
        let service = &self.service;
        let event = self.request(endpoint, example);
        let event = match (status, example) {
            ("200", "infinite") if endpoint.path.ends_with("/tokens") => {
                event.query("expiryType=Infinite")
            }
            ("200", "inactive") => event.form("token=any"),
            ("201", _) if endpoint.name == "put-user" => {
                self.made(self.event("delete-user")).await;
                event
            }
            ("400", _) => broken(event, example),
            ("401", "wrong") => broken(event, "wrongPassword"),
            ("401", _) => event.header("authorization", ""),
            ("403", "ofAdministrator") => {
                self.put_user(&json!({ "admin": true })).await;
                let scope = json!({ "scope": "tokenry:tokens:write" }).to_string();
                let server = self.event("create-server-token");
                let server = server.parameter("ecosystemId", service.ecosystem.id.as_str());
                let server = self.made(server.json_body(&scope)).await["token"].clone();
                let event = self.request(endpoint, "throughBackEnd");
                event.header("authorization", server.as_str().unwrap())
            }
            ("403", "wrong") => broken(event, "wrongCurrentPassword"),
            ("403", _) if endpoint.name == "change-password" => {
                event.header("authorization", &service.account_token)
            }
            ("403", _) if endpoint.name == "whoami" => event.query("holder=account"),
            ("403", _) => {
                let ann = service.user("ann").await;
                let token = self.event("create-user-token").parameter("id", &ann);
                let token = self.made(token).await["token"].clone();
                event.header("authorization", token.as_str().unwrap())
            }
            ("404", "user") => {
                self.made(self.event("delete-user")).await;
                self.request(endpoint, "forUser")
            }
            ("404", "ecosystem") => self.request(endpoint, "forUser"),
            ("409", _) => return self.conflict(endpoint, example).await,
            ("412", _) => event.header("if-none-match", "*"),
            ("413", _) => event.json_body(&" ".repeat(16 * 1024 + 1)),
            ("415", _) => event.header("content-type", "text/plain"),
            ("429", _) => {
                let mistake = match endpoint.name {
                    "consume-shortcode" => "shortcode",
                    "change-password" => "wrongCurrentPassword",
                    _ => "wrongPassword",
                };
                let wrong = broken(event.clone(), mistake);
                while wrong.send(&service.app).await.status != 429 {}
                event
            }
            ("500", _) => return self.with(Fault::Denied, &event).await,
            ("503", _) => return self.with(Fault::Unreachable, &event).await,
            _ => event,
        };
        event.send(&service.app).await
    }

    /// Sends a request while every database call fails.
    async fn with(&self, fault: Fault, event: &Event) -> Answer {
        self.service.database.fail_always(Some(fault));
        let answer = event.send(&self.service.app).await;
        self.service.database.fail_always(None);
        answer
    }

    /// Sends a request that gets a 409, because the state of the service does not allow it.
    async fn conflict(&self, endpoint: &Endpoint, example: &str) -> Answer {
        let service = &self.service;
        let event = match example {
            "address" => self.request(endpoint, "everything"),
            _ => self.request(endpoint, "forUser"),
        };
        match example {
            "inactive" => self.put_user(&json!({ "active": false })).await,
            "address" => {
                let ann = service.user("ann").await;
                let put = self.event("put-user").parameter("id", &ann);
                let body = json!({ "email": ADDRESS }).to_string();
                self.made(put.json_body(&body)).await;
            }
            "key" => {
                let ann = self.user.replace(";bob", ";ann");
                service.set_owner_id(&self.user, &ann).await;
            }
            "ended" => {
                let name = match endpoint.name {
                    "update-server-token" => "revoke-server-token",
                    _ => "revoke-user-token",
                };
                let mut revocation = Event::to(name);
                for part in ["headers", "pathParameters"] {
                    revocation.json[part] = event.json[part].clone();
                }
                self.made(revocation).await;
            }
            "emailToken" => {
                self.put_user(&json!({ "email": ADDRESS })).await;
                let body = json!({ "email": ADDRESS }).to_string();
                let token = self.event("create-email-token").json_body(&body);
                let id = self.made(token).await["data"][0]["tokenId"].clone();
                let event = event.parameter("tokenId", id.as_str().unwrap());
                return event.send(&service.app).await;
            }
            "full" => {
                let update = self.event("update-ecosystem");
                let update = update.parameter("ecosystemId", service.ecosystem.id.as_str());
                self.made(update.json_body(r#"{"maxTokensPerUser":1}"#))
                    .await;
            }
            "migrate" => {
                service.set_schema(2).await;
                return event
                    .send(&service.environment_of_stored_version().await)
                    .await;
            }
            "lost" => service.change_email_token_value(&self.user).await,
            "changed" => {
                // The user changes between the read and the transaction.
                let late = ("TransactWriteItems", Fault::NotBefore("Query"));
                service.database.fail([late]);
                let revoke = async {
                    service.database.has_arrived("TransactWriteItems").await;
                    self.made(self.event("revoke-user-tokens")).await;
                };
                return join(event.send(&service.app), revoke).await.0;
            }
            _ => {}
        }
        event.send(&service.app).await
    }
}
