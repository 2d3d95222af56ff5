//! Serves the API's page at `/`, and the file `openapi.yaml`, which the page shows. Only the local
//! gateway serves the page and the file.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderValue, Method,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa_swagger_ui::{Config, serve};

use crate::gateway::not_found;

/// The repository's `openapi.yaml`.
const OPENAPI: &str = include_str!("../../openapi.yaml");
/// The media type of YAML (RFC 9512).
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
/// The content security policy. The page can load files only from its own origin, and can send
/// requests only to its own origin. The viewer needs inline styles, and data URLs for its icons.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the routes of `/openapi.yaml` and of the viewer's files. `/` is the viewer's index.
pub(crate) fn routes() -> Router {
    let config = Config::from("/openapi.yaml")
        .use_base_layout()
        .validator_url("none");
    let config = Arc::new(config);
    let file = async move |method: Method, path: Option<Path<String>>| {
        let path = path.map_or_else(String::new, |Path(path)| path);
        let file = serve(&path, config).expect("the viewer's initializer is UTF-8");
        match file {
            Some(file) if method == Method::GET => {
                let content_type = HeaderValue::try_from(file.content_type);
                content(
                    content_type.expect("a content type is a header value"),
                    file.bytes,
                )
            }
            _ => not_found().await,
        }
    };
    let openapi = async |method: Method| match method {
        Method::GET => content(YAML, OPENAPI.as_bytes().into()),
        // axum's GET routes also accept HEAD. API Gateway's GET routes do not.
        _ => not_found().await,
    };
    Router::new()
        .route("/openapi.yaml", get(openapi))
        .route("/", get(file.clone()))
        .route("/{file}", get(file))
}

fn content(content_type: HeaderValue, bytes: Cow<'static, [u8]>) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, bytes).into_response()
}
