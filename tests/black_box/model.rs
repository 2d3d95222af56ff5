//! Runs 10,000 random sequences of steps. The steps create, use and invalidate tokens. Every
//! response is compared with the response that a short model predicts. Two tests run 5,000
//! sequences each, so that two threads share the work.

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::{Value, json};
use shared::{
    App,
    domain::{time::UnixSeconds, token::ExpiryType},
    service::{access::MayWrite, directory::create_ecosystem},
};
use tests::{Event, Service, TestClock, rounds};

#[derive(Clone, Copy, Debug)]
enum Step {
    Mint(ExpiryType, u64, Option<u64>),
    /// Introspects the token with this index, if it exists.
    Use(usize),
    /// Revokes the token with this index, if it exists.
    Revoke(usize),
    RevokeAll,
    List,
    /// Moves the clock forward by this many seconds, or back if the number is negative.
    Clock(i64),
    Put(Option<bool>),
    DeleteUser,
    DeleteEcosystem,
}

fn step() -> impl Strategy<Value = Step> {
    use ExpiryType::{FixedTtl, Infinite, SlidingTtl};
    let kind = prop_oneof![1 => Just(Infinite), 1 => Just(FixedTtl), 3 => Just(SlidingTtl)];
    prop_oneof![
        5 => (kind, 1..6_u64, prop::option::of(1..9_u64)).prop_map(|(kind, ttl, max)| Step::Mint(kind, ttl, max)),
        9 => (0..4_usize).prop_map(Step::Use),
        2 => (0..4_usize).prop_map(Step::Revoke),
        1 => Just(Step::RevokeAll),
        2 => Just(Step::List),
        7 => prop_oneof![6 => 1..5_i64, 3 => -4..0_i64, 1 => Just(40)].prop_map(Step::Clock),
        2 => prop::option::of(any::<bool>()).prop_map(Step::Put),
        1 => Just(Step::DeleteUser),
        1 => Just(Step::DeleteEcosystem),
    ]
}

/// The part of a token's state on which responses depend.
#[derive(Debug)]
struct Token {
    id: String,
    text: String,
    kind: ExpiryType,
    ttl: u64,
    /// The expiry time, as it was set when the token was created or last used.
    expires: u64,
    /// The latest possible expiry time, from `maxTtl`. If an introspection found the token expired,
    /// this field is 0.
    max: Option<u64>,
    last_used: Option<u64>,
    epoch: u64,
    /// When this execution environment last tried to renew the token, and the result. The result is
    /// the token's expiry time, or `None` if the token was not valid.
    renewed: Option<(u64, Option<u64>)>,
    is_gone: bool,
    /// From this second on, this execution environment remembers that the token is dead, and reads
    /// nothing for it.
    dead_from: Option<u64>,
}

impl Token {
    /// Returns the time at which the token expires, or `None` if the token never expires. From this
    /// second on, the token is invalid.
    fn end(&self) -> Option<u64> {
        match self.kind {
            ExpiryType::Infinite => None,
            _ => Some(self.max.map_or(self.expires, |max| max.min(self.expires))),
        }
    }

    fn is_alive(&self, now: u64) -> bool {
        self.end().is_none_or(|end| now < end)
    }

    /// Renews a sliding token. Returns the token's expiry time, or `None` if the token is not
    /// valid.
    fn renew(&mut self, now: u64) -> Option<u64> {
        if let Some((second, outcome)) = self.renewed
            && second >= now
        {
            return outcome;
        }
        let outcome = if self.is_gone {
            None
        } else if self.is_alive(now) && self.last_used.is_none_or(|last| last < now) {
            self.expires = now + self.ttl;
            self.last_used = Some(now);
            Some(self.expires)
        } else if self.is_alive(now) {
            self.end()
        } else {
            // If an introspection finds the token expired, the token becomes permanently invalid.
            // It stays invalid even if the clock is set back.
            if self.max.is_none_or(|max| max > now) {
                self.max = Some(0);
            }
            None
        };
        self.renewed = Some((now, outcome));
        outcome
    }
}

/// The expected result of the introspection of an active token.
struct Active {
    /// The token's expiry time, or `None` if the token never expires.
    end: Option<u64>,
}

/// All state on which the responses depend.
struct Model {
    now: u64,
    has_ecosystem: bool,
    /// When a verification last read the ecosystem. The ecosystem is then cached for 30 seconds.
    seen: Option<u64>,
    /// Whether the user is active, and the user's epoch. `None` if the user does not exist.
    user: Option<(bool, u64)>,
    epochs: u64,
    tokens: Vec<Token>,
}

impl Model {
    /// Returns the status 404 if the user or its ecosystem does not exist.
    fn missing(&self) -> Option<u16> {
        (!self.has_ecosystem || self.user.is_none()).then_some(404)
    }

    fn is_valid(&self, token: &Token) -> bool {
        !token.is_gone && self.user == Some((true, token.epoch)) && token.is_alive(self.now)
    }

    /// Introspects the token with this index. Returns `None` if the token is not active.
    fn use_it(&mut self, at: usize) -> Option<Active> {
        let now = self.now;
        let token = &self.tokens[at];
        if token.dead_from.is_some_and(|from| from <= now) {
            return None;
        }
        // The record is read before the renewal.
        let end = token.end().filter(|end| *end <= now);
        let is_revoked = token.is_gone || self.user.is_none_or(|(_, epoch)| epoch != token.epoch);
        let active = self.read_and_use(at);
        let token = &mut self.tokens[at];
        token.dead_from = if is_revoked {
            Some(0)
        } else if active.is_none() {
            end.or(token.dead_from)
        } else {
            None
        };
        active
    }

    /// Introspects a token that is not remembered as dead.
    fn read_and_use(&mut self, at: usize) -> Option<Active> {
        let now = self.now;
        let remembered = self.seen.is_some_and(|seen| seen <= now && now - seen < 30);
        if !remembered && self.has_ecosystem {
            self.seen = Some(now);
        }
        let has_ecosystem = remembered || self.has_ecosystem;
        let token = &mut self.tokens[at];
        if token.kind == ExpiryType::SlidingTtl {
            let until = token.renew(now)?;
            let end = token.max.map_or(until, |max| max.min(until));
            let token = &self.tokens[at];
            let is_active = has_ecosystem
                && !token.is_gone
                && self.user == Some((true, token.epoch))
                && now < end;
            return is_active.then_some(Active { end: Some(end) });
        }
        let token = &self.tokens[at];
        let end = token.end();
        (has_ecosystem && self.is_valid(token)).then_some(Active { end })
    }
}

/// One sequence of steps. It uses a new ecosystem and user, and a new execution environment with
/// empty caches.
struct Run<'a> {
    service: &'a Service,
    app: App,
    ecosystem: String,
    user: String,
    model: Model,
}

impl<'a> Run<'a> {
    async fn start(service: &'a Service) -> Self {
        service.database.take_calls();
        let made =
            create_ecosystem(&service.app, MayWrite::of_operator(), &service.account.id).await;
        let ecosystem = made.expect("the ecosystem is created").id.to_string();
        let run = Self {
            service,
            app: service.another_environment(),
            user: format!("{ecosystem};bob"),
            ecosystem,
            model: Model {
                now: service.app.now().seconds().0,
                has_ecosystem: true,
                seen: None,
                user: Some((true, 0)),
                epochs: 0,
                tokens: Vec::new(),
            },
        };
        let made = run.event("put-user").json_body("{}").send(&run.app).await;
        assert_eq!(made.status, 201, "{made:?}");
        run
    }

    fn event(&self, endpoint: &'static str) -> Event {
        Event::to(endpoint)
            .header("authorization", &self.service.account_token)
            .parameter("id", &self.user)
            .parameter("ecosystemId", &self.ecosystem)
    }

    /// Runs a step and compares the response with the response that the model predicts.
    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let tokens = self.model.tokens.len();
        match step {
            Step::Clock(seconds) => {
                self.turn(seconds);
                Ok(())
            }
            Step::Mint(kind, ttl, max) => self.mint(kind, ttl, max).await,
            Step::Use(at) if at < tokens => self.use_it(at).await,
            Step::Revoke(at) if at < tokens => self.revoke(at).await,
            Step::Use(_) | Step::Revoke(_) => Ok(()),
            Step::List => self.list().await,
            Step::RevokeAll | Step::Put(_) | Step::DeleteUser | Step::DeleteEcosystem => {
                self.end(step).await
            }
        }
    }

    fn turn(&mut self, seconds: i64) {
        let model = &mut self.model;
        let by = seconds.unsigned_abs();
        if seconds < 0 {
            self.service.clock.go_back(by);
            model.now -= by;
        } else {
            self.service.clock.advance(by);
            model.now += by;
        }
    }

    async fn mint(
        &mut self,
        kind: ExpiryType,
        ttl: u64,
        max: Option<u64>,
    ) -> Result<(), TestCaseError> {
        let max_ttl = max.map_or(String::new(), |max| format!("&maxTtl={max}"));
        let query = format!("expiryType={kind:?}&ttl={ttl}{max_ttl}");
        let minted = self.event("create-user-token").query(&query);
        let answer = minted.send(&self.app).await;
        let model = &mut self.model;
        let expected = match model.user {
            _ if model.missing().is_some() => 404,
            Some((false, _)) => 409,
            _ => 200,
        };
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if let (200, Some((_, epoch))) = (expected, model.user) {
            let ttl = max.map_or(ttl, |max| max.min(ttl));
            let minted = answer.json();
            let is_sliding = kind == ExpiryType::SlidingTtl;
            let token = Token {
                id: minted["tokenId"]
                    .as_str()
                    .expect("the token has an id")
                    .to_owned(),
                text: answer.token(),
                kind,
                ttl,
                expires: model.now + ttl,
                max: max.filter(|_| is_sliding).map(|max| model.now + max),
                last_used: None,
                epoch,
                renewed: None,
                is_gone: false,
                dead_from: None,
            };
            let end = token.end().and_then(|end| UnixSeconds(end).to_rfc3339());
            prop_assert_eq!(&minted["expiresAt"], &json!(end));
            model.tokens.push(token);
        }
        Ok(())
    }

    async fn use_it(&mut self, at: usize) -> Result<(), TestCaseError> {
        let form = format!("token={}", self.model.tokens[at].text);
        let introspection = self.event("introspect-token").form(&form);
        let answer = introspection.send(&self.app).await.json();
        if let Some(Active { end }) = self.model.use_it(at) {
            prop_assert_eq!(answer["active"].as_bool(), Some(true), "{}", answer);
            prop_assert_eq!(answer["exp"].as_u64(), end);
            prop_assert_eq!(answer["jti"].as_str(), Some(&*self.model.tokens[at].id));
        } else {
            prop_assert_eq!(answer, json!({ "active": false }));
        }
        Ok(())
    }

    async fn revoke(&mut self, at: usize) -> Result<(), TestCaseError> {
        let id = &self.model.tokens[at].id;
        let revocation = self.event("revoke-user-token").parameter("tokenId", id);
        let answer = revocation.send(&self.app).await;
        prop_assert_eq!(answer.status, self.model.missing().unwrap_or(204));
        if answer.status == 204 {
            self.model.tokens[at].is_gone = true;
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<(), TestCaseError> {
        let answer = self.event("list-user-tokens").send(&self.app).await;
        let model = &self.model;
        prop_assert_eq!(answer.status, model.missing().unwrap_or(200));
        if answer.status == 200 {
            let page = answer.json();
            let listed = page["tokens"]
                .as_array()
                .expect("the page has `tokens`")
                .iter();
            let id = |token: &Value| {
                token["tokenId"]
                    .as_str()
                    .expect("the token has an id")
                    .to_owned()
            };
            let listed: Vec<_> = listed.map(id).collect();
            let live = model.tokens.iter().filter(|token| model.is_valid(token));
            let mut live: Vec<_> = live.map(|token| token.id.clone()).collect();
            live.sort_by(|a, b| b.cmp(a));
            prop_assert_eq!(listed, live);
        }
        Ok(())
    }

    /// Runs a step that changes or deletes the user or the ecosystem.
    async fn end(&mut self, step: Step) -> Result<(), TestCaseError> {
        let event = match step {
            Step::Put(active) => {
                let body = active.map_or(json!({}), |active| json!({ "active": active }));
                self.event("put-user").json_body(&body.to_string())
            }
            Step::RevokeAll => self.event("revoke-user-tokens"),
            Step::DeleteUser => self.event("delete-user"),
            _ => self.event("delete-ecosystem"),
        };
        let answer = event.send(&self.app).await;
        let model = &mut self.model;
        let expected = match step {
            _ if !model.has_ecosystem => 404,
            Step::Put(_) if model.user.is_none() => 201,
            Step::Put(_) => 200,
            Step::DeleteEcosystem => 204,
            _ => model.missing().unwrap_or(204),
        };
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if expected == 404 {
            return Ok(());
        }
        model.epochs += 1;
        let fresh = model.epochs;
        match step {
            Step::Put(active) => {
                let (was_active, epoch) = model.user.unwrap_or((true, fresh));
                let ends = active == Some(false);
                model.user = Some((
                    active.unwrap_or(was_active),
                    if ends { fresh } else { epoch },
                ));
            }
            Step::RevokeAll => {
                model.user = model.user.map(|(active, _)| (active, fresh));
                for token in &mut model.tokens {
                    token.is_gone = true;
                }
            }
            Step::DeleteUser => model.user = None,
            _ => model.has_ecosystem = false,
        }
        Ok(())
    }
}

fn half() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }
        .enable_all()
        .build()
        .expect("the runtime starts");
    let service = runtime.block_on(Service::start());
    // Some steps set the clock back. The clock is advanced first, so that these steps never reach a
    // time before `TestClock::START`.
    service.clock.advance(1000);
    assert!(service.app.now().seconds().0 > TestClock::START);
    let mut runner = TestRunner::new(Config {
        cases: rounds(5000),
        failure_persistence: None,
        ..Config::default()
    });
    let sequences = prop::collection::vec(step(), 1..16);
    runner
        .run(&sequences, |steps| {
            runtime.block_on(async {
                let mut run = Run::start(&service).await;
                // Most steps need a token, so each sequence first mints a token.
                run.step(Step::Mint(ExpiryType::SlidingTtl, 3, None))
                    .await?;
                for step in steps {
                    run.step(step).await?;
                }
                Ok(())
            })
        })
        .unwrap();
}

#[test]
fn every_response_in_5000_sequences_matches_the_model() {
    half();
}

#[test]
fn every_response_in_5000_more_sequences_matches_the_model() {
    half();
}
