//! Sends random concurrent requests about one user, and checks that the user never has a valid
//! token while the user is inactive or deleted.

use futures_util::future::join_all;
use proptest::{prelude::*, test_runner::TestRunner};
use tests::{Answer, Event, Service};

/// A request about one user.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Deactivate,
    Activate,
    Delete,
    Mint,
    Verify,
}

impl Step {
    /// Returns whether the step invalidates all earlier tokens of the user.
    fn ends_tokens(self) -> bool {
        matches!(self, Self::Deactivate | Self::Delete)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Put),
        1 => Just(Step::Deactivate),
        1 => Just(Step::Activate),
        1 => Just(Step::Delete),
        3 => Just(Step::Mint),
        1 => Just(Step::Verify),
    ]
}

async fn take(service: &Service, user: &str, step: Step, token: Option<&String>) -> Answer {
    let event = |endpoint| Event::to(endpoint).header("authorization", &service.account_token);
    let put = |body| event("put-user").parameter("id", user).json_body(body);
    let event = match step {
        Step::Put => put("{}"),
        Step::Deactivate => put(r#"{"active":false}"#),
        Step::Activate => put(r#"{"active":true}"#),
        Step::Delete => event("delete-user").parameter("id", user),
        Step::Mint => event("create-user-token")
            .parameter("id", user)
            .query("expiryType=SlidingTtl"),
        Step::Verify => {
            let token = token.map_or("none", String::as_str);
            event("introspect-token").form(&format!("token={token}"))
        }
    };
    event.send(&service.app).await
}

/// Runs the groups one after the other, and the steps of a group concurrently.
///
/// Checks all tokens after each group. If the user is inactive or deleted, all tokens must be
/// invalid. Otherwise, let N be the number of the last group that invalidated tokens. A token that
/// a group before N minted must be invalid. A token that a group after N minted must be valid. A
/// token that group N minted may be valid or invalid.
async fn live(service: &Service, user: &str, groups: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    let mut ended = 0;
    for (number, group) in groups.iter().enumerate() {
        let latest = tokens.last().map(|(_, token)| token.clone());
        let steps = group
            .iter()
            .map(|step| take(service, user, *step, latest.as_ref()));
        for (step, answer) in group.iter().zip(join_all(steps).await) {
            prop_assert!(answer.status < 500, "{:?}: {:?}", step, answer);
            if matches!(step, Step::Mint) && answer.status == 200 {
                tokens.push((number, answer.token()));
            }
            if step.ends_tokens() && answer.status < 300 {
                ended = number;
            }
        }
        let shown = service
            .manage("GET", &format!("/api/users/{user}"), "")
            .await;
        let alive = shown.status == 200 && shown.json()["active"] == true;
        for (made, token) in &tokens {
            let active = service.is_active(token).await;
            prop_assert!(
                !active || (alive && *made >= ended),
                "a valid token was minted in group {}; tokens were last invalidated in group {}; \
                 user active: {}",
                made,
                ended,
                alive
            );
            // A token that was minted after the last invalidation must be valid.
            prop_assert!(
                active || *made <= ended || !alive,
                "a token of an active user is invalid"
            );
        }
    }
    Ok(())
}

#[test]
fn an_inactive_or_deleted_user_never_has_a_valid_token_after_concurrent_requests() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let service = runtime.block_on(Service::start());
    let mut users = 0;
    let groups = prop::collection::vec(prop::collection::vec(step(), 1..4), 1..8);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let run = |groups: Vec<Vec<Step>>| {
        users += 1;
        let user = format!("{};user{users}", service.ecosystem.id.as_str());
        runtime.block_on(live(&service, &user, &groups))
    };
    let run = std::cell::RefCell::new(run);
    runner
        .run(&groups, |groups| run.borrow_mut()(groups))
        .unwrap();
}
