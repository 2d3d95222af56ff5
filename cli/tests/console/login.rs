//! Tests of `tokenry login` and of the profile that it creates.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{Ran, Serve, profile, refusal, run, tokenry};

impl Serve {
    /// Runs `tokenry login`, with this token as standard input.
    fn log_in(&self, token: &str) -> Ran {
        let arguments = ["login", "--url", &self.url];
        run(tokenry(self.home.path(), &arguments), &format!("{token}\n"))
    }

    /// Runs `user get` with the address and the token of the profile.
    fn get(&self, arguments: &[&str]) -> Ran {
        let get = ["user", "get", &self.user_id];
        run(
            tokenry(self.home.path(), &[&get[..], arguments].concat()),
            "",
        )
    }

    fn profile(&self) -> std::path::PathBuf {
        profile(self.home.path())
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_profile_and_commands_need_only_the_profile() {
    let serve = Serve::start();
    let path = serve.profile();
    let ran = serve.log_in(&serve.account_token);
    let told = format!(
        "The account token for {} is stored in {}.\n",
        serve.url,
        path.display()
    );
    assert_eq!((ran.code, ran.stdout, ran.stderr), (0, told, String::new()));
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    let kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        kept,
        json!({"url": serve.url, "token": serve.account_token})
    );
    assert_eq!(serve.get(&[]).code, 0);

    // A new profile replaces an old profile that has another mode and invalid content.
    fs::write(&path, "garbage").unwrap();
    set_mode(&path, 0o644);
    assert_eq!(serve.log_in(&serve.account_token).code, 0);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(serve.get(&[]).code, 0);
    // Without `--url`, `tokenry login` uses the address in the profile.
    let ran = run(
        tokenry(serve.home.path(), &["login", "--json"]),
        &serve.account_token,
    );
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        told,
        json!({"url": serve.url, "profile": path, "holder": "account"})
    );
}

#[test]
fn login_also_stores_server_tokens_and_user_tokens() {
    let serve = Serve::start();
    // A token needs no scope for a log-in.
    for scope in ["read", "tokenry:codes:write"] {
        let create = [
            "server-token",
            "create",
            &serve.ecosystem_id,
            "--scope",
            scope,
        ];
        let server = serve.json(&create);
        let ran = serve.log_in(server["token"].as_str().unwrap());
        let told = format!("The server token of {} for ", serve.ecosystem_id);
        assert!(ran.stdout.starts_with(&told), "{ran:?}");
    }
    let ran = serve.log_in(&serve.token(&[]));
    let told = format!("The user token of {} for ", serve.ecosystem_id);
    assert!(ran.stdout.starts_with(&told), "{ran:?}");
    assert_eq!(serve.get(&[]).code, 3);
}

#[test]
fn an_invalid_token_is_not_stored() {
    let serve = Serve::start();
    let revoked = serve.token(&[]);
    serve.ok_with(&revoked, &["revoke"]);
    for (token, code) in [
        ("wrong", 3),
        (revoked.as_str(), 3),
        ("two words", 2),
        ("", 2),
    ] {
        let ran = run(
            tokenry(serve.home.path(), &["login", "--url", &serve.url]),
            &format!("{token}\n"),
        );
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.lines().count()),
            (code, "", 1)
        );
    }
    assert!(!serve.profile().exists());
    let line = refusal(tokenry(serve.home.path(), &["login"]), 2, "wrong");
    assert!(line.starts_with("no address: "), "{line}");
}

#[test]
fn flags_override_variables_and_variables_override_the_profile() {
    let serve = Serve::start();
    let other = Serve::start();
    assert_eq!(serve.log_in(&serve.account_token).code, 0);
    let get = |url: Option<&str>, variable: Option<&str>, token: Option<&str>| {
        let mut arguments = vec!["user", "get", &serve.user_id];
        arguments.extend(url.into_iter().flat_map(|url| ["--url", url]));
        let mut command = tokenry(serve.home.path(), &arguments);
        variable.map(|url| command.env("TOKENRY_URL", url));
        token.map(|token| command.env("TOKENRY_TOKEN", token));
        run(command, "")
    };
    assert_eq!(get(None, None, None).code, 0);
    assert_eq!(get(None, None, Some("wrong")).code, 3);
    assert_eq!(
        get(Some(&format!("{}/", serve.url)), Some(&other.url), None).code,
        0
    );
    assert_eq!(
        get(None, Some(&other.url), Some(&other.account_token)).code,
        4
    );
    // The profile's token is not sent to another address.
    let ran = get(Some(&other.url), None, None);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .starts_with("no token for this address: the profile "),
        "{ran:?}"
    );
}

#[test]
fn a_flag_or_a_variable_selects_another_profile() {
    let serve = Serve::start();
    let path = serve.home.path().join("a/b/other.json");
    let named = path.to_str().unwrap();
    let login = ["login", "--url", &serve.url, "--profile", named];
    assert_eq!(
        run(tokenry(serve.home.path(), &login), &serve.account_token).code,
        0
    );
    assert!(!serve.profile().exists());
    assert_eq!(serve.get(&["--profile", named]).code, 0);
    let mut command = tokenry(serve.home.path(), &["user", "get", &serve.user_id]);
    command.env("TOKENRY_PROFILE", named);
    assert_eq!(run(command, "").code, 0);
}

#[test]
fn a_name_selects_a_profile_and_a_path_selects_a_file() {
    let serve = Serve::start();
    let home = serve.home.path();
    let profiles = home.join(".config/tokenry/profiles");
    let login = |profile: &str| {
        let arguments = ["--profile", profile, "login", "--url", &serve.url];
        run(tokenry(home, &arguments), &serve.account_token)
    };
    let longest = "x".repeat(64);
    for name in ["staging", "a-B_9", longest.as_str()] {
        assert_eq!(serve.get(&["--profile", name]).code, 2);
        let ran = login(name);
        let path = profiles.join(format!("{name}.json"));
        assert!(ran.stdout.contains(path.to_str().unwrap()), "{ran:?}");
        #[cfg(unix)]
        assert_eq!((mode(&profiles), mode(&path)), (0o700, 0o600));
        assert_eq!(serve.get(&["--profile", name]).code, 0);
        let mut command = tokenry(home, &["user", "get", &serve.user_id]);
        command.env("TOKENRY_PROFILE", name);
        assert_eq!(run(command, "").code, 0);
    }
    assert_eq!(fs::read_dir(&profiles).unwrap().count(), 3);
    // The default profile is another file.
    assert!(!serve.profile().exists());
    assert_eq!(serve.get(&[]).code, 2);

    // A path without a directory is relative to the working directory.
    let mut command = tokenry(
        home,
        &["login", "--url", &serve.url, "--profile", "here.json"],
    );
    command.current_dir(home);
    assert_eq!(run(command, &serve.account_token).code, 0);
    assert!(home.join("here.json").is_file());

    let too_long = "x".repeat(65);
    for invalid in ["a b", "a.b", "..", "ä", "tk_secret!", too_long.as_str()] {
        let arguments = ["login", "--url", &serve.url, "--profile", invalid];
        let line = refusal(tokenry(home, &arguments), 2, &serve.account_token);
        assert!(
            line.starts_with("a profile is a name of 1 to 64 letters, "),
            "{line}"
        );
    }
    assert_eq!(fs::read_dir(&profiles).unwrap().count(), 3);
    // A command that needs no profile does not check the profile's name.
    let mut command = serve.command(&["revoke"]);
    command.env("TOKENRY_PROFILE", "a b");
    assert_eq!(run(command, "rubbish").code, 0);
}

#[test]
fn a_profile_of_an_earlier_release_works() {
    let serve = Serve::start();
    let path = serve.profile();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (url, token) = (&serve.url, &serve.account_token);
    fs::write(&path, format!(r#"{{"url":"{url}","token":"{token}"}}"#)).unwrap();
    #[cfg(unix)]
    set_mode(&path, 0o600);
    assert_eq!(serve.get(&[]).code, 0);
}

#[test]
fn logout_removes_the_profile_and_revokes_its_token_only_on_request() {
    let serve = Serve::start();
    let home = serve.home.path();
    let path = serve.profile();
    let token = serve.token(&[]);
    let line = refusal(tokenry(home, &["logout"]), 2, "");
    let missing = format!("not logged in: there is no profile {}", path.display());
    assert_eq!(line, missing);
    assert_eq!(
        refusal(tokenry(home, &["logout", "--revoke"]), 2, ""),
        missing
    );

    assert_eq!(serve.log_in(&token).code, 0);
    let ran = run(tokenry(home, &["logout"]), "");
    let removed = format!("The profile {} is removed.\n", path.display());
    assert_eq!((ran.code, &ran.stdout), (0, &removed));
    assert!(!path.exists());
    assert_eq!(serve.json_with(&token, &["introspect"])["active"], true);

    // `logout` ignores the token in the variables. It revokes the token of the profile.
    assert_eq!(serve.log_in(&token).code, 0);
    assert_eq!(
        serve.ok(&["logout", "--revoke"]),
        format!("The token is revoked. {removed}")
    );
    assert!(!path.exists());
    assert_eq!(run(serve.command(&["introspect"]), &token).code, 4);

    // If the token cannot be revoked, the profile stays.
    fs::write(&path, r#"{"url":"http://127.0.0.1:1","token":"x"}"#).unwrap();
    #[cfg(unix)]
    set_mode(&path, 0o600);
    refusal(tokenry(home, &["logout", "--revoke"]), 5, "");
    assert!(path.exists());
    // `logout` also removes a profile that is invalid, and only the chosen one.
    fs::write(&path, "garbage").unwrap();
    refusal(tokenry(home, &["logout", "--revoke"]), 2, "");
    refusal(tokenry(home, &["logout", "--profile", "other"]), 2, "");
    assert!(path.exists());
    assert_eq!(serve.ok(&["logout", "--output", "json"]), "");
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn the_error_for_an_invalid_profile_is_one_line_without_the_profiles_content() {
    let serve = Serve::start();
    let path = serve.profile();
    assert_eq!(serve.log_in(&serve.account_token).code, 0);
    let whole = fs::read_to_string(&path).unwrap();
    let url = serve.url.as_str();
    for (content, mode, said) in [
        (
            whole.as_str(),
            0o644,
            "others have access to it (mode 0644): run `chmod 600` on it",
        ),
        (&whole, 0o620, "others have access to it (mode 0620): "),
        (
            &whole[..whole.len() - 1],
            0o600,
            "it is not JSON with url and token (line 1, ",
        ),
        ("", 0o600, "it is not JSON with url and token (line 1, "),
        (r#""tk_uf_secret""#, 0o600, "it is not JSON "),
        (r#"{"url":"tk_uf_secret"}"#, 0o600, "it is not JSON "),
        (r#"{"token":"tk_uf_secret"}"#, 0o600, "it is not JSON "),
        (
            r#"{"url":7,"token":"tk_uf_secret"}"#,
            0o600,
            "it is not JSON ",
        ),
        (
            r#"{"url":"tk_uf_secret","token":"x"}"#,
            0o600,
            "the API's address is not a URL",
        ),
        (
            r#"{"url":"http://example.com","token":"tk_uf_secret"}"#,
            0o600,
            "the API's address starts with http://",
        ),
        (
            &format!(r#"{{"url":"{url}","token":"tk_uf secret"}}"#),
            0o600,
            "its field token is not a token",
        ),
    ] {
        fs::write(&path, content).unwrap();
        set_mode(&path, mode);
        let line = refusal(
            tokenry(serve.home.path(), &["user", "get", &serve.user_id]),
            2,
            "",
        );
        assert!(
            line.contains(said) && line.contains(path.to_str().unwrap()),
            "{line}"
        );
        assert!(!line.contains("secret"), "{line}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    set_mode(&path, 0o700);
    let line = refusal(
        tokenry(serve.home.path(), &["user", "get", &serve.user_id]),
        2,
        "",
    );
    assert!(line.starts_with("cannot use the profile "), "{line}");
    let ran = serve.log_in(&serve.account_token);
    assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
    // The profile is not read if flags or variables set both the address and the token.
    serve.ok(&["user", "get", &serve.user_id]);
}
