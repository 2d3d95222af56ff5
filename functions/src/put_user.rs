//! `PUT /api/users/{id}`: creates or changes a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        email::Email,
        error::{Result, combine},
        password::Password,
    },
    http::{
        created, credential, fields::Fields, ok, only_if_none_exists, user::shown, user_ecosystem,
        user_id,
    },
    service::{
        access::rights,
        directory::{self, Put, UserChange},
        verify::Lookup,
    },
};

/// Returns 201 with a new user, or 200 with a changed user. A field that is omitted keeps its
/// value. Null removes the address or the password. Every token of the user is revoked immediately
/// if the address changes, if a password is set or removed, or if `active` is `false`. With the
/// header `If-None-Match: *`, the request only creates a user.
///
/// # Errors
/// 400 if the id or the body is invalid, or if there is any query field; 401; 403, for example if
/// the caller may not manage e-mail tokens and the user is or becomes an admin user; 404 if the
/// ecosystem is unknown; 409 if the id has the same database key as another id (a hash collision),
/// or if another user has the e-mail address; 412 if the user exists and must not; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).caller(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::PUT_USER, user_ecosystem(&request).as_ref())?;
    let (id, change) = combine(id, change(app, &request))?;
    let slot = permit.user_slot(&id)?;

    match directory::put_user(app, permit.proof, slot, change).await? {
        Put::Created(user) => created(&shown(&user)),
        Put::Changed(user) => ok(&shown(&user)),
    }
}

fn change(app: &App, request: &Request) -> Result<UserChange> {
    let mut body = Fields::json(request)?;
    let must_be_new = only_if_none_exists(request);
    let min_length = app.settings().password_min_length;
    let change = UserChange {
        must_be_new: matches!(must_be_new, Ok(true)),
        admin: body.boolean("admin"),
        active: body.boolean("active"),
        email: body.nullable("email", Email::parse),
        password: body.nullable("password", |text| Password::parse_new(text, min_length)),
    };
    let fields = combine(Fields::query(request).finish(), body.finish());
    combine(must_be_new, fields).map(|_| change)
}
