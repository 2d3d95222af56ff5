//! Runs 10,000 random sequences of steps. The steps create, use, change and invalidate tokens. The
//! caller is the account, or the user with its own token. Every response is compared with the
//! response that a short model predicts. Two tests run 5,000 sequences each, so that two threads
//! share the work.

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
use tests::{Answer, Event, Service, TestClock, rounds};

use crate::change_password;

/// The caller of a step: the account, or the token of the user with this index.
type By = Option<usize>;

/// A step. If it names a token that does not exist, it does nothing.
#[derive(Clone, Copy, Debug)]
enum Step {
    Mint(
        ExpiryType,
        u64,
        Option<u64>,
        Option<Scope>,
        Option<Metadata>,
    ),
    /// Logs the user in with the correct or a wrong password, and creates a session.
    LogIn {
        is_right: bool,
        ttl: Option<u64>,
        max: Option<u64>,
    },
    /// Introspects the token with this index.
    Use(usize),
    /// Revokes the token with this index.
    Revoke(By, usize),
    /// Reads the record of the token with this index.
    Get(By, usize),
    /// Changes the token with this index. Then introspects it.
    Change(By, usize, Change),
    RevokeAll(By),
    /// The token with this index sends a request to change the user's password. The second value
    /// says whether the current password in the request is correct.
    ChangePassword(usize, bool),
    List(By),
    /// The token with this index sends a request that no user may send: the request with the second
    /// index in [`FORBIDDEN`].
    Forbidden(usize, usize),
    /// Moves the clock forward by this many seconds, or back if the number is negative.
    Clock(i64),
    Put(Option<bool>),
    DeleteUser,
    DeleteEcosystem,
}

/// An index in [`SCOPES`].
type Scope = usize;

/// Metadata is one number.
type Metadata = u8;

/// The scopes of tokens. The first one is the default.
const SCOPES: &[&str] = &[
    "read write",
    "read",
    "write app:1",
    "tokenry:tokens:read",
    "tokenry:tokens:write app:1",
    "app:1",
    "read write app:1 app:2",
];

/// Returns whether a scope contains or implies each of the other scopes.
fn covers(scope: Scope, others: &str) -> bool {
    let has = |one: &str| SCOPES[scope].split(' ').any(|own| own == one);
    others.split(' ').all(|other| {
        let implied = match other {
            "tokenry:tokens:read" => has("read"),
            "tokenry:tokens:write" | "tokenry:users:write" => has("write"),
            _ => false,
        };
        implied || has(other)
    })
}

/// The settings of sessions. Few log-ins of the model ask for more.
const SESSION_TTL: u64 = 20;
const SESSION_MAX_TTL: u64 = 30;
/// An index in [`SCOPES`].
const SESSION_SCOPE: Scope = 6;
const PASSWORD: &str = "correct horse";

/// Requests that a user may not send. The second value says whether the request reads the ecosystem
/// even if it is cached.
const FORBIDDEN: &[(&str, bool)] = &[
    ("create-user-token", true),
    ("put-user", true),
    ("introspect-token", false),
];

/// A change of a token. A field that is `None` keeps its value.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    scope: Option<Scope>,
    metadata: Option<NewMetadata>,
    disabled: Option<bool>,
}

/// The metadata after a change: a value, or none.
#[derive(Clone, Copy, Debug)]
struct NewMetadata(Option<Metadata>);

fn step() -> impl Strategy<Value = Step> {
    use ExpiryType::{FixedTtl, Infinite, SlidingTtl};
    let kind = prop_oneof![2 => Just(Infinite), 1 => Just(FixedTtl), 3 => Just(SlidingTtl)];
    let max = prop::option::of(1..9_u64);
    let scope = prop::option::of(0..SCOPES.len());
    let metadata = prop::option::of(0..3_u8);
    let mint = (kind, 1..6_u64, max, scope, metadata.clone());
    let up_to = |max: u64| prop::option::of(1..max + 2);
    let log_in = (
        prop::bool::weighted(0.8),
        up_to(SESSION_TTL),
        up_to(SESSION_MAX_TTL),
    );
    let by = || prop::option::weighted(0.4, 0..4_usize);
    let change = prop_oneof![
        5 => any::<bool>().prop_map(|disabled| Change { disabled: Some(disabled), ..Change::default() }),
        3 => (0..SCOPES.len()).prop_map(|scope| Change { scope: Some(scope), ..Change::default() }),
        1 => metadata.prop_map(|value| Change { metadata: Some(NewMetadata(value)), ..Change::default() }),
        1 => (0..SCOPES.len(), any::<bool>()).prop_map(|(scope, disabled)| {
            Change { scope: Some(scope), disabled: Some(disabled), ..Change::default() }
        }),
    ];
    prop_oneof![
        6 => mint.prop_map(|(kind, ttl, max, scope, metadata)| Step::Mint(kind, ttl, max, scope, metadata)),
        1 => log_in.prop_map(|(is_right, ttl, max)| Step::LogIn { is_right, ttl, max }),
        9 => (0..4_usize).prop_map(Step::Use),
        2 => (by(), 0..4_usize).prop_map(|(by, at)| Step::Revoke(by, at)),
        2 => (by(), 0..4_usize).prop_map(|(by, at)| Step::Get(by, at)),
        4 => (by(), 0..4_usize, change).prop_map(|(by, at, change)| Step::Change(by, at, change)),
        1 => by().prop_map(Step::RevokeAll),
        // Each of these steps computes hashes, so there are few of them.
        1 => (0..2_usize, prop::bool::weighted(0.8)).prop_map(|(by, right)| Step::ChangePassword(by, right)),
        2 => by().prop_map(Step::List),
        1 => (0..4_usize, 0..FORBIDDEN.len()).prop_map(|(by, at)| Step::Forbidden(by, at)),
        // After 5,000 seconds, the next use of any token is stored.
        7 => prop_oneof![12 => 1..5_i64, 6 => -4..0_i64, 2 => Just(40), 1 => Just(5000)].prop_map(Step::Clock),
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
    created: u64,
    last_used: Option<u64>,
    /// When this execution environment last tried to store a use of a token that is not a sliding
    /// token.
    stored: Option<u64>,
    epoch: u64,
    scope: Scope,
    metadata: Option<Metadata>,
    is_disabled: bool,
    /// When this execution environment last tried to renew the token, and the result. The result is
    /// the token's expiry time, or `None` if the token was not valid.
    renewed: Option<(u64, Option<u64>)>,
    ended: Option<Ended>,
    /// From this second on, this execution environment remembers that the token is dead, and reads
    /// nothing for it.
    dead_from: Option<u64>,
}

/// How a token ended.
#[derive(Debug)]
enum Ended {
    /// The token was revoked, by the account or by the user's token with this index. A record of it
    /// is stored.
    Revoked(By),
    /// The token was revoked to make room for the token with this index. A record of it is stored.
    ByLimit(usize),
    /// The token was revoked together with all others. Nothing is stored.
    WithAll,
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
        let can_be_renewed = self.ended.is_none() && !self.is_disabled;
        if let Some((second, outcome)) = self.renewed
            && second >= now
            // A disabled token was rejected, and enabled again.
            && !(second == now && outcome.is_none() && can_be_renewed && self.is_alive(now))
        {
            return outcome;
        }
        let outcome = if !can_be_renewed {
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

    /// Returns the time from which the token is expired, even if it is used.
    fn last_end(&self) -> Option<u64> {
        match self.kind {
            ExpiryType::Infinite => None,
            ExpiryType::FixedTtl => self.end(),
            ExpiryType::SlidingTtl => self.max,
        }
    }

    /// Stores the use of a valid token that is not a sliding token, if an hour has passed.
    fn store_use(&mut self, now: u64) {
        let is_due = now >= self.last_used.unwrap_or(self.created) + 3600;
        let has_tried = self.stored.is_some_and(|at| at <= now && now - at < 30);
        if is_due && !has_tried {
            self.last_used = Some(now);
            self.stored = Some(now);
        }
    }

    /// Asserts that a list or a record shows the token as it is stored.
    fn check(&self, shown: &Value, with_last_use: bool) -> Result<(), TestCaseError> {
        prop_assert_eq!(&shown["tokenId"], &self.id);
        prop_assert_eq!(&shown["scope"], SCOPES[self.scope]);
        let metadata = self.metadata.map(|number| json!({ "number": number }));
        prop_assert_eq!(shown.get("metadata"), metadata.as_ref());
        let is_disabled = self.is_disabled && self.ended.is_none();
        prop_assert_eq!(&shown["disabled"], is_disabled);
        if with_last_use {
            let last = self
                .last_used
                .and_then(|last| UnixSeconds(last).to_rfc3339());
            prop_assert_eq!(&shown["lastUsedAt"], &json!(last));
        }
        Ok(())
    }
}

/// A limit of tokens per user.
#[derive(Clone, Copy, Debug)]
struct Limit {
    count: usize,
    /// Whether the oldest tokens are revoked to make room for a new one.
    revokes_oldest: bool,
}

fn limit() -> impl Strategy<Value = Option<Limit>> {
    let limit = (1..4_usize, any::<bool>()).prop_map(|(count, revokes_oldest)| Limit {
        count,
        revokes_oldest,
    });
    prop::option::of(limit)
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
    /// Whether the user has an e-mail address and the password [`PASSWORD`]. A user that was
    /// deleted and created again has none.
    has_password: bool,
    /// The number of log-ins.
    log_ins: u8,
    epochs: u64,
    tokens: Vec<Token>,
    limit: Option<Limit>,
    /// The epoch of the user, and the tokens that take one of the places that the limit allows.
    /// `None` before the user gets the first token under a limit.
    places: Option<(u64, Vec<usize>)>,
}

impl Model {
    /// Returns the status 404 if the user or its ecosystem does not exist.
    fn missing(&self) -> Option<u16> {
        (!self.has_ecosystem || self.user.is_none()).then_some(404)
    }

    /// Returns whether the token is in a list: it is valid or disabled.
    fn is_listed(&self, token: &Token) -> bool {
        token.ended.is_none() && self.user == Some((true, token.epoch)) && token.is_alive(self.now)
    }

    fn is_valid(&self, token: &Token) -> bool {
        self.is_listed(token) && !token.is_disabled
    }

    /// Returns the status of a request to mint a token. If the status is 200, makes room for the
    /// token, which will be the last one in `tokens`.
    fn mint(&mut self) -> u16 {
        match (self.user, self.limit) {
            _ if self.missing().is_some() => 404,
            (Some((true, epoch)), Some(limit)) => {
                let Some(mut places) = self.make_room(epoch, limit) else {
                    return 409;
                };
                places.push(self.tokens.len());
                self.places = Some((epoch, places));
                200
            }
            (Some((false, _)), _) => 409,
            _ => 200,
        }
    }

    /// Returns the tokens that take a place after one place was made free. Returns `None` if the
    /// user has the most tokens allowed.
    fn make_room(&mut self, epoch: u64, limit: Limit) -> Option<Vec<usize>> {
        let current = self.places.clone().filter(|(of, _)| *of == epoch);
        let is_new = current.is_none();
        let mut places = current.map_or_else(|| (0..self.tokens.len()).collect(), |(_, old)| old);
        if is_new {
            places.retain(|at| self.takes_place(*at, epoch));
        }
        // A token that cannot become valid again gives up its place.
        let now = self.now;
        places.retain(|at| self.tokens[*at].last_end().is_none_or(|end| now < end));
        if places.len() >= limit.count {
            places.retain(|at| self.takes_place(*at, epoch));
        }
        if places.len() >= limit.count {
            if !limit.revokes_oldest {
                return None;
            }
            places.sort_by(|a, b| self.tokens[*a].id.cmp(&self.tokens[*b].id));
            let new = self.tokens.len();
            for at in places.drain(..=places.len() - limit.count) {
                self.tokens[at].ended = Some(Ended::ByLimit(new));
            }
        }
        Some(places)
    }

    /// Returns whether the token takes a place. If it is a sliding token that is expired because
    /// nobody used it, ends it permanently, unless it is disabled.
    fn takes_place(&mut self, at: usize, epoch: u64) -> bool {
        let now = self.now;
        let token = &mut self.tokens[at];
        if token.ended.is_some() || token.epoch != epoch {
            return false;
        }
        let is_alive = token.is_alive(now);
        let is_idle = token.kind == ExpiryType::SlidingTtl
            && token.max.is_none_or(|max| now < max)
            && now < token.expires + 20 * 60;
        if !is_alive && is_idle && !token.is_disabled {
            token.max = Some(0);
        }
        is_alive
    }

    /// Returns the error status of a request about the record of a token, if no record is stored.
    fn no_record(&self, token: &Token) -> Option<u16> {
        let is_stored = match token.ended {
            Some(Ended::Revoked(_) | Ended::ByLimit(_)) => true,
            Some(Ended::WithAll) => false,
            // If the user has another epoch, the token ended together with all others. Its item may
            // not be deleted yet.
            None => self.user.is_some_and(|(_, epoch)| epoch == token.epoch),
        };
        self.missing().or((!is_stored).then_some(404))
    }

    /// Returns the status of a change of a token.
    fn change(&self, by: By, token: &Token, change: Change) -> u16 {
        let enables = token.is_disabled && change.disabled == Some(false);
        let widens = change
            .scope
            .is_some_and(|new| !covers(token.scope, SCOPES[new]));
        if by.is_some() && change.metadata.is_some() {
            403
        } else if let Some(status) = self.no_record(token) {
            status
        } else if token.ended.is_some() {
            409
        } else if by.is_some() && (enables || widens) {
            403
        } else if token.is_alive(self.now) {
            200
        } else {
            409
        }
    }

    /// Checks the caller of a request about the user. The request needs `scope`, and reads the
    /// ecosystem even if it is cached. Returns the error status.
    fn authorize(&mut self, by: By, scope: &str) -> Option<u16> {
        let by = by?;
        if self.use_it(by, true).is_none() {
            return Some(401);
        }
        (!covers(self.tokens[by].scope, scope)).then_some(403)
    }

    /// Verifies the token with this index. Returns `None` if the token is not active.
    fn use_it(&mut self, at: usize, reads_ecosystem: bool) -> Option<Active> {
        let now = self.now;
        let token = &self.tokens[at];
        if token.dead_from.is_some_and(|from| from <= now) {
            return None;
        }
        // The record is read before the renewal.
        let end = token.end().filter(|end| *end <= now);
        let is_revoked =
            token.ended.is_some() || self.user.is_none_or(|(_, epoch)| epoch != token.epoch);
        let active = self.read_and_use(at, reads_ecosystem);
        let token = &mut self.tokens[at];
        if token.ended.is_none() && token.is_disabled {
            // A disabled token can be enabled again, so it is not remembered as dead.
            return None;
        }
        if active.is_some() && token.kind != ExpiryType::SlidingTtl {
            token.store_use(now);
        }
        token.dead_from = if is_revoked {
            Some(0)
        } else if active.is_none() {
            end.or(token.dead_from)
        } else {
            None
        };
        active
    }

    /// Verifies a token that is not remembered as dead.
    fn read_and_use(&mut self, at: usize, reads_ecosystem: bool) -> Option<Active> {
        let now = self.now;
        let remembered = self.seen.is_some_and(|seen| seen <= now && now - seen < 30);
        if !remembered && self.has_ecosystem {
            self.seen = Some(now);
        }
        let has_ecosystem = (remembered && !reads_ecosystem) || self.has_ecosystem;
        let token = &mut self.tokens[at];
        if token.kind == ExpiryType::SlidingTtl {
            let until = token.renew(now)?;
            let end = token.max.map_or(until, |max| max.min(until));
            let token = &self.tokens[at];
            let is_active = has_ecosystem
                && token.ended.is_none()
                && !token.is_disabled
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
    /// `password_of` is a user with the password [`PASSWORD`]. The new user gets the same one.
    async fn start(service: &'a Service, limit: Option<Limit>, password_of: &str) -> Self {
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
                has_password: true,
                log_ins: 0,
                epochs: 0,
                tokens: Vec::new(),
                limit,
                places: None,
            },
        };
        let mut settings = json!({
            "sessionTtl": SESSION_TTL,
            "sessionMaxTtl": SESSION_MAX_TTL,
            "sessionScope": SCOPES[SESSION_SCOPE],
        });
        if let Some(limit) = limit {
            settings["maxTokensPerUser"] = limit.count.into();
            if limit.revokes_oldest {
                settings["whenFull"] = "revoke-oldest".into();
            }
        }
        let changed = run
            .event("update-ecosystem")
            .json_body(&settings.to_string());
        let changed = changed.send(&run.app).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let body = json!({ "email": run.email() }).to_string();
        let made = run.event("put-user").json_body(&body).send(&run.app).await;
        assert_eq!(made.status, 201, "{made:?}");
        // Hashing the password in each sequence would take too long.
        service.copy_password(password_of, &run.user).await;
        run
    }

    fn event(&self, endpoint: &'static str) -> Event {
        self.event_by(endpoint, None)
    }

    /// The user's e-mail address, which no user of another sequence has.
    fn email(&self) -> String {
        format!("{}@example.com", self.ecosystem)
    }

    fn event_by(&self, endpoint: &'static str, by: By) -> Event {
        let token = by.map_or(&self.service.account_token, |by| {
            &self.model.tokens[by].text
        });
        Event::to(endpoint)
            .header("authorization", token)
            .parameter("id", &self.user)
            .parameter("ecosystemId", &self.ecosystem)
    }

    /// Sends a request about the token with this index.
    async fn send(&self, endpoint: &'static str, by: By, at: usize, body: &Value) -> Answer {
        let event = self.event_by(endpoint, by);
        let event = event.parameter("tokenId", &self.model.tokens[at].id);
        let event = match body {
            Value::Null => event,
            body => event.json_body(&body.to_string()),
        };
        event.send(&self.app).await
    }

    /// Runs a step and compares the response with the response that the model predicts.
    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let tokens = self.model.tokens.len();
        let exists = |by: By| by.is_none_or(|by| by < tokens);
        match step {
            Step::Clock(seconds) => {
                self.turn(seconds);
                Ok(())
            }
            Step::Mint(..) => self.mint(step).await,
            Step::LogIn { .. } => self.log_in(step).await,
            Step::Use(at) if at < tokens => self.use_it(at).await,
            Step::Revoke(by, at) if at < tokens && exists(by) => self.revoke(by, at).await,
            Step::Get(by, at) if at < tokens && exists(by) => self.get(by, at).await,
            Step::Change(by, at, change) if at < tokens && exists(by) => {
                self.change(by, at, change).await?;
                self.use_it(at).await
            }
            Step::List(by) if exists(by) => self.list(by).await,
            Step::RevokeAll(by) if exists(by) => self.end(step).await,
            Step::ChangePassword(by, right) if by < tokens => self.change_password(by, right).await,
            Step::Forbidden(by, request) if by < tokens => self.forbidden(by, request).await,
            Step::Put(_) | Step::DeleteUser | Step::DeleteEcosystem => self.end(step).await,
            _ => Ok(()),
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

    async fn mint(&mut self, step: Step) -> Result<(), TestCaseError> {
        let Step::Mint(kind, ttl, max, scope, metadata) = step else {
            return Ok(());
        };
        let max_ttl = max.map_or(String::new(), |max| format!("&maxTtl={max}"));
        let query = format!("expiryType={kind:?}&ttl={ttl}{max_ttl}");
        let mut body = json!({});
        if let Some(scope) = scope {
            body["scope"] = json!(SCOPES[scope]);
        }
        if let Some(number) = metadata {
            body["metadata"] = json!({ "number": number });
        }
        let minted = self.event("create-user-token").query(&query);
        let minted = minted.json_body(&body.to_string());
        let answer = minted.send(&self.app).await;
        let model = &mut self.model;
        let expected = model.mint();
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
                created: model.now,
                last_used: None,
                stored: None,
                epoch,
                scope: scope.unwrap_or(0),
                metadata,
                is_disabled: false,
                renewed: None,
                ended: None,
                dead_from: None,
            };
            let end = token.end().and_then(|end| UnixSeconds(end).to_rfc3339());
            prop_assert_eq!(&minted["expiresAt"], &json!(end));
            prop_assert_eq!(&minted["scope"], SCOPES[token.scope]);
            prop_assert_eq!(minted.get("metadata"), body.get("metadata"));
            model.tokens.push(token);
        }
        Ok(())
    }

    async fn log_in(&mut self, step: Step) -> Result<(), TestCaseError> {
        let Step::LogIn { is_right, ttl, max } = step else {
            return Ok(());
        };
        let password = if is_right { PASSWORD } else { "a wrong one" };
        let mut body = json!({ "email": self.email(), "password": password });
        if let Some(ttl) = ttl {
            body["ttl"] = ttl.into();
        }
        if let Some(max) = max {
            body["maxTtl"] = max.into();
        }
        self.model.log_ins += 1;
        // Each log-in has its own source, so that none reaches a limit.
        let id = u32::from_str_radix(&self.ecosystem[19..], 16).expect("the id has hex digits");
        let [_, a, b, c] = id.to_be_bytes();
        let source = format!("2001:db8:{a:x}{b:02x}:{c:x}{:02x}::1", self.model.log_ins);
        let log_in = Event::to("create-session").source(&source);
        let answer = log_in.json_body(&body.to_string()).send(&self.app).await;

        let model = &mut self.model;
        let too_long = ttl.is_some_and(|ttl| ttl > SESSION_TTL)
            || max.is_some_and(|max| max > SESSION_MAX_TTL);
        let can_log_in = is_right && model.has_ecosystem && model.has_password;
        let expected = match model.user {
            Some((true, _)) if can_log_in && too_long => 400,
            Some((true, _)) if can_log_in => match model.mint() {
                200 => 201,
                other => other,
            },
            _ => 401,
        };
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if let (201, Some((_, epoch))) = (expected, model.user) {
            let max = max.unwrap_or(SESSION_MAX_TTL);
            let ttl = ttl.unwrap_or(SESSION_TTL).min(max);
            let made = answer.json();
            let token = Token {
                id: made["tokenId"]
                    .as_str()
                    .expect("the response has the id of the token")
                    .to_owned(),
                text: answer.token(),
                kind: ExpiryType::SlidingTtl,
                ttl,
                expires: model.now + ttl,
                max: Some(model.now + max),
                created: model.now,
                last_used: None,
                stored: None,
                epoch,
                scope: SESSION_SCOPE,
                metadata: None,
                is_disabled: false,
                renewed: None,
                ended: None,
                dead_from: None,
            };
            let end = token.end().and_then(|end| UnixSeconds(end).to_rfc3339());
            prop_assert_eq!(&made["expiresAt"], &json!(end));
            prop_assert_eq!(&made["scope"], SCOPES[SESSION_SCOPE]);
            model.tokens.push(token);
        }
        Ok(())
    }

    async fn use_it(&mut self, at: usize) -> Result<(), TestCaseError> {
        let form = format!("token={}", self.model.tokens[at].text);
        let introspection = self.event("introspect-token").form(&form);
        let answer = introspection.send(&self.app).await.json();
        if let Some(Active { end }) = self.model.use_it(at, false) {
            let token = &self.model.tokens[at];
            prop_assert_eq!(answer["active"].as_bool(), Some(true), "{}", answer);
            prop_assert_eq!(answer["exp"].as_u64(), end);
            prop_assert_eq!(answer["jti"].as_str(), Some(&*token.id));
            prop_assert_eq!(answer["scope"].as_str(), Some(SCOPES[token.scope]));
            let metadata = token.metadata.map(|number| json!({ "number": number }));
            prop_assert_eq!(answer.get("metadata"), metadata.as_ref());
        } else {
            prop_assert_eq!(answer, json!({ "active": false }));
        }
        Ok(())
    }

    async fn revoke(&mut self, by: By, at: usize) -> Result<(), TestCaseError> {
        let answer = self.send("revoke-user-token", by, at, &Value::Null).await;
        let refused = self.model.authorize(by, "tokenry:tokens:write");
        let no_record = self.model.no_record(&self.model.tokens[at]);
        let expected = refused.or(no_record).unwrap_or(204);
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        let now = self.model.now;
        let token = &mut self.model.tokens[at];
        // The record of an expired token stays as it is.
        let is_expired = token.kind == ExpiryType::FixedTtl && !token.is_alive(now);
        if answer.status == 204 && token.ended.is_none() && !is_expired {
            token.ended = Some(Ended::Revoked(by));
        }
        Ok(())
    }

    async fn get(&mut self, by: By, at: usize) -> Result<(), TestCaseError> {
        let answer = self.send("get-user-token", by, at, &Value::Null).await;
        let refused = self.model.authorize(by, "tokenry:tokens:read");
        let model = &self.model;
        let token = &model.tokens[at];
        let expected = refused.or(model.no_record(token)).unwrap_or(200);
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if answer.status == 200 {
            let record = answer.json();
            // The record of the caller is read before this use is stored.
            token.check(&record, by != Some(at))?;
            let (state, reason) = match token.ended {
                Some(Ended::ByLimit(_)) => ("revoked", Some("limit-reached")),
                Some(_) => ("revoked", Some("revoked")),
                None if !token.is_alive(model.now) => ("expired", Some("expired")),
                None if token.is_disabled => ("disabled", None),
                None => ("active", None),
            };
            prop_assert_eq!(&record["state"], state, "{}", record);
            prop_assert_eq!(record["endReason"].as_str(), reason);
            let ended_by = match token.ended {
                Some(Ended::Revoked(Some(by)) | Ended::ByLimit(by)) => {
                    Some(("user", Some(&model.tokens[by].id)))
                }
                Some(Ended::Revoked(None)) => Some(("account", None)),
                _ => None,
            };
            let shown = record.get("endedBy");
            prop_assert_eq!(shown.is_some(), ended_by.is_some());
            if let Some((holder, id)) = ended_by {
                prop_assert_eq!(&record["endedBy"]["holder"], holder);
                let is_right = id.is_none_or(|id| record["endedBy"]["tokenId"] == **id);
                prop_assert!(is_right, "{}", record);
            }
        }
        Ok(())
    }

    async fn change(&mut self, by: By, at: usize, change: Change) -> Result<(), TestCaseError> {
        let mut body = json!({});
        if let Some(scope) = change.scope {
            body["scope"] = json!(SCOPES[scope]);
        }
        if let Some(NewMetadata(number)) = change.metadata {
            body["metadata"] = number.map_or(Value::Null, |number| json!({ "number": number }));
        }
        if let Some(disabled) = change.disabled {
            body["disabled"] = json!(disabled);
        }
        let answer = self.send("update-user-token", by, at, &body).await;
        let refused = self.model.authorize(by, "tokenry:tokens:write");
        let model = &mut self.model;
        let expected = refused.unwrap_or_else(|| model.change(by, &model.tokens[at], change));
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if answer.status == 200 {
            let token = &mut model.tokens[at];
            token.scope = change.scope.unwrap_or(token.scope);
            token.metadata = change.metadata.map_or(token.metadata, |new| new.0);
            token.is_disabled = change.disabled.unwrap_or(token.is_disabled);
            let record = answer.json();
            token.check(&record, by != Some(at))?;
            let state = if token.is_disabled {
                "disabled"
            } else {
                "active"
            };
            prop_assert_eq!(&record["state"], state, "{}", record);
        }
        Ok(())
    }

    async fn list(&mut self, by: By) -> Result<(), TestCaseError> {
        let answer = self.event_by("list-user-tokens", by).send(&self.app).await;
        let refused = self.model.authorize(by, "tokenry:tokens:read");
        let model = &self.model;
        let expected = refused.or(model.missing()).unwrap_or(200);
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if answer.status == 200 {
            let page = answer.json();
            let listed = page["tokens"].as_array().expect("the page has `tokens`");
            let live = model.tokens.iter().filter(|token| model.is_listed(token));
            let mut live: Vec<_> = live.collect();
            live.sort_by(|a, b| b.id.cmp(&a.id));
            prop_assert_eq!(listed.len(), live.len(), "{}", page);
            for (shown, token) in listed.iter().zip(live) {
                token.check(shown, true)?;
            }
        }
        Ok(())
    }

    async fn change_password(&mut self, by: usize, right: bool) -> Result<(), TestCaseError> {
        let current = if right { PASSWORD } else { "a wrong one" };
        let token = &self.model.tokens[by].text;
        let event = change_password::change(token, current, PASSWORD);
        // Each sequence has a source of its own, so that no sequence uses up the limit of another.
        let answer = event.source(&self.source()).send(&self.app).await;
        let model = &mut self.model;
        let expected = if model.use_it(by, false).is_none() {
            401
        } else if !covers(model.tokens[by].scope, "tokenry:users:write") {
            403
        } else if right && model.has_password {
            204
        } else {
            403
        };
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        if expected == 204 {
            model.epochs += 1;
            model.user = Some((true, model.epochs));
            model.tokens[by].epoch = model.epochs;
        }
        Ok(())
    }

    /// Returns an address that depends on the ecosystem.
    fn source(&self) -> String {
        let digits = &self.ecosystem[1..];
        format!("2001:db8:{}:{}::1", &digits[..4], &digits[4..8])
    }

    /// Sends a request that no user may send.
    async fn forbidden(&mut self, by: usize, request: usize) -> Result<(), TestCaseError> {
        let (endpoint, reads_ecosystem) = FORBIDDEN[request];
        let event = self.event_by(endpoint, Some(by));
        let event = match endpoint {
            "introspect-token" => event.form("token=x"),
            _ => event.json_body("{}"),
        };
        let answer = event.send(&self.app).await;
        let active = self.model.use_it(by, reads_ecosystem);
        let expected = if active.is_some() { 403 } else { 401 };
        prop_assert_eq!(answer.status, expected, "{:?}", answer);
        Ok(())
    }

    /// Runs a step that changes or deletes the user or the ecosystem.
    async fn end(&mut self, step: Step) -> Result<(), TestCaseError> {
        let event = match step {
            Step::Put(active) => {
                let body = active.map_or(json!({}), |active| json!({ "active": active }));
                self.event("put-user").json_body(&body.to_string())
            }
            Step::RevokeAll(by) => self.event_by("revoke-user-tokens", by),
            Step::DeleteUser => self.event("delete-user"),
            _ => self.event("delete-ecosystem"),
        };
        let answer = event.send(&self.app).await;
        let model = &mut self.model;
        if let Step::RevokeAll(by) = step
            && let Some(refused) = model.authorize(by, "tokenry:tokens:write")
        {
            prop_assert_eq!(answer.status, refused, "{:?}", answer);
            return Ok(());
        }
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
            Step::RevokeAll(_) => {
                model.user = model.user.map(|(active, _)| (active, fresh));
                // The records of single revocations stay.
                for token in &mut model.tokens {
                    token.ended.get_or_insert(Ended::WithAll);
                }
            }
            Step::DeleteUser => {
                model.user = None;
                model.has_password = false;
            }
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
    let eve = runtime.block_on(service.person("eve", "eve@example.com", PASSWORD));
    // Some steps set the clock back. The clock is advanced first, so that these steps never reach a
    // time before `TestClock::START`.
    service.clock.advance(1000);
    assert!(service.app.now().seconds().0 > TestClock::START);
    let mut runner = TestRunner::new(Config {
        cases: rounds(5000),
        failure_persistence: None,
        ..Config::default()
    });
    let sequences = (limit(), prop::collection::vec(step(), 1..16));
    runner
        .run(&sequences, |(limit, steps)| {
            runtime.block_on(async {
                let mut run = Run::start(&service, limit, &eve).await;
                // Most steps need a token, so each sequence first mints a token.
                run.step(Step::Mint(ExpiryType::SlidingTtl, 3, None, None, None))
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
