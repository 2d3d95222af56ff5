//! Runs the crate `oauth2`, unmodified, against Tokenry. See client.py for the variables.

use std::{env::var, error::Error, fs};

use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, IntrospectionUrl, RevocationUrl, StandardRevocableToken,
    TokenIntrospectionResponse, basic::BasicClient, reqwest,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (issuer, user) = (var("ISSUER")?, var("USER_ID")?);
    let (tokens, foreign) = (var("TOKENS")?, AccessToken::new(var("FOREIGN")?));
    let certificate = reqwest::Certificate::from_pem(&fs::read(var("CERTIFICATE")?)?)?;
    let http = reqwest::blocking::Client::builder()
        .add_root_certificate(certificate)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;

    for (kind, token) in [AuthType::BasicAuth, AuthType::RequestBody].into_iter().zip(tokens.split(' ')) {
        let name = format!("oauth2, {kind:?}");
        let client = BasicClient::new(ClientId::new(var("CLIENT_ID")?))
            .set_client_secret(ClientSecret::new(var("CLIENT_SECRET")?))
            .set_auth_type(kind)
            .set_introspection_url(IntrospectionUrl::new(format!("{issuer}/api/auth/introspect"))?)
            .set_revocation_url(RevocationUrl::new(format!("{issuer}/api/auth/revoke"))?);
        let token = AccessToken::new(token.to_owned());

        let claims = client.introspect(&token).request(&http)?;
        assert!(claims.active(), "a minted token is active");
        assert_eq!(claims.sub(), Some(user.as_str()));
        assert_eq!(claims.username(), Some(user.as_str()));
        let mut scopes: Vec<&str> = claims.scopes().into_iter().flatten().map(|scope| scope.as_str()).collect();
        scopes.sort_unstable();
        assert_eq!(scopes, ["read", "write"]);
        assert!(claims.exp().is_some());
        assert!(!client.introspect(&foreign).request(&http)?.active(), "the token of another ecosystem is inactive");

        client.revoke_token(StandardRevocableToken::from(token.clone()))?.request(&http)?;
        assert!(!client.introspect(&token).request(&http)?.active(), "a revoked token is inactive");
        println!("ok: {name}");
    }
    Ok(())
}
