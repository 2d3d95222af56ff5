//! `POST /api/auth/shortcode/create`: creates a short code for a user or for an environment.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        error::{Error, Result, combine},
        id::{EcosystemId, EnvironmentId, UserId},
        shortcode::{CodeTtl, NewCode},
        token::{ExpiryType, Holder, Permission, Ttl},
    },
    http::{created_secret, credential, fields::Fields},
    service::{
        access::rights,
        directory::must_be_active,
        shortcode::{create_for_environment, create_for_user},
        verify::Lookup,
    },
};
use tokenry_api::CreatedShortcode;

/// The user or environment that a code is created for.
enum Target {
    Environment(EnvironmentId),
    User(UserId),
}

/// Returns 201 with the code, which is shown only once.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field; 401; 403, for example if a user
/// requests a code for another user; 404 if the environment, the ecosystem or the user is unknown;
/// 409 if the user is inactive or belongs to a deleted environment; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let (named, target, wanted) = asked(&request);
    let (user, environment) = match &target {
        Ok(Target::User(id)) => (Some(id), None),
        Ok(Target::Environment(id)) => (None, Some(id)),
        Err(_) => (None, None),
    };
    let lookup = Lookup::new(app).caller(&credential);
    let found = lookup.user(user).environment(environment).read().await?;

    let caller = found.caller(&credential)?;
    let is_own = caller.user().is_some_and(|own| named.is_only(own));
    let right = if is_own {
        rights::CREATE_OWN_SHORTCODE
    } else {
        rights::CREATE_SHORTCODE
    };
    let permit = caller.may(right, named.ecosystem.as_ref())?;
    let caller = permit.caller();
    let (target, wanted) = combine(target, wanted)?;
    let wanted = match caller.holder() {
        Holder::User => NewCode {
            ends_at: caller.expiry.expires_at(),
            ..wanted
        },
        Holder::Account | Holder::Server => wanted,
    };
    match target {
        Target::User(id) => {
            let user = permit.user(&id)?;
            if user.admin {
                caller.must_allow(Permission::EmailTokensWrite)?;
            }
            must_be_active(app, user).await?;
            let code = create_for_user(app, &permit, user, &wanted).await?;
            created_secret(&CreatedShortcode {
                shortcode: code.reveal().to_owned().into(),
                ecosystem_id: id.ecosystem().to_string(),
                environment_id: None,
                user_id: id.to_string(),
            })
        }
        Target::Environment(id) => {
            let made = create_for_environment(app, &permit, &id, &wanted).await?;
            let (code, user, environment) = made;
            created_secret(&CreatedShortcode {
                shortcode: code.reveal().to_owned().into(),
                ecosystem_id: environment.ecosystem.to_string(),
                environment_id: Some(id.to_string()),
                user_id: user.to_string(),
            })
        }
    }
}

/// The ids in a body. They are read even if the body is invalid, because authorization comes before
/// validation.
#[derive(Default)]
struct Named {
    environment: bool,
    user: Option<String>,
    ecosystem: Option<EcosystemId>,
}

impl Named {
    /// Returns whether the body contains no id other than this user's id.
    fn is_only(&self, user: &UserId) -> bool {
        let is_other = |text: &String| text != user.as_str();
        !self.environment && !self.user.as_ref().is_some_and(is_other)
    }
}

/// Parses the body. Returns the ids in the body, the target, and the properties of the new code.
fn asked(request: &Request) -> (Named, Result<Target>, Result<NewCode>) {
    let mut body = match Fields::json(request) {
        Ok(body) => body,
        Err(error) => return (Named::default(), Err(error), Ok(NewCode::default())),
    };
    let user = body.peek("userId");
    let ecosystem = user.and_then(|text| text.split(';').next());
    let named = Named {
        environment: body.has("environmentId"),
        user: user.map(str::to_owned),
        ecosystem: ecosystem.and_then(|text| EcosystemId::parse(text).ok()),
    };
    let together = match (body.has("environmentId"), body.has("userId")) {
        (true, false) | (false, true) => Ok(()),
        _ => Err(Error::InvalidCombination {
            path: "id",
            message: "Shortcode must be generated from either an environmentId or userId.",
        }),
    };
    let environment = body.text("environmentId", |text| {
        EnvironmentId::parse(text).map_err(|_| "invalid environment id")
    });
    let user = body.text("userId", |text| {
        UserId::parse(text).map_err(|_| Error::USER_ID)
    });
    let wanted = NewCode {
        ttl: body
            .number("shortCodeTtl", CodeTtl::parse)
            .unwrap_or_default(),
        token_expiry_type: body
            .text("tokenExpiryType", ExpiryType::parse)
            .unwrap_or_default(),
        token_ttl: body.number("tokenTtl", Ttl::parse).unwrap_or_default(),
        ends_at: None,
    };
    let fields = combine(Fields::query(request).finish(), body.finish());
    let target = match (together, environment, user) {
        (Err(error), ..) => Err(error),
        (Ok(()), Some(id), _) => Ok(Target::Environment(id)),
        (Ok(()), None, Some(id)) => Ok(Target::User(id)),
        // `fields` already contains the error, so return no second error.
        (Ok(()), None, None) => Err(Error::Invalid(Vec::new())),
    };
    (named, target, fields.map(|_| wanted))
}
