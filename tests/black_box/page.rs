//! Tests of the API's page (`/`) and of the OpenAPI document (`/openapi.yaml`). `.ci/page.py` tests
//! the page in a browser.

use tests::Service;

#[tokio::test]
async fn openapi_yaml_is_served_unchanged() {
    let service = Service::start().await;
    let answer = service.send(service.request("GET", "/openapi.yaml")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/yaml"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.body, include_str!("../../openapi.yaml"));
}

#[tokio::test]
async fn the_page_may_use_only_its_own_origin_for_files_and_requests() {
    let service = Service::start().await;
    let answer = service.send(service.request("GET", "/")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/html"));
    let policy = answer
        .header("content-security-policy")
        .expect("the response has a policy");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for source in [" *", "http:", "https:", "unsafe-eval", "script-src 'unsafe"] {
        assert!(!policy.contains(source), "{policy}");
    }
}

#[tokio::test]
async fn the_page_and_its_files_can_be_requested_only_with_get() {
    let service = Service::start().await;
    for path in ["/", "/openapi.yaml", "/swagger-ui.css"] {
        let answer = service.send(service.request("GET", path)).await;
        assert_eq!(answer.status, 200, "{path}");
        for method in ["HEAD", "POST", "DELETE", "OPTIONS"] {
            let answer = service.send(service.request(method, path)).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    assert!(service.database.take_calls().is_empty());
}
