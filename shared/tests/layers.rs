//! Checks that the layers of this crate use one another in one direction only.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer, with the other layers that it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("log", &[]),
    ("metrics", &["domain"]),
    ("store", &["domain"]),
    ("service", &["config", "domain", "metrics", "store"]),
    ("http", &["domain", "service"]),
];

/// The crates that only certain layers may name, with those layers.
const CRATES: &[(&str, &str)] = &[
    ("aws_sdk_dynamodb", "store"),
    ("aws_sdk_kms", "service or store"),
    ("lambda_http", "http"),
    ("tokenry_api", "domain or http"),
];

/// Returns the source files of a layer, each with its text. Comment lines are left out.
fn files(layer: &str) -> Vec<(PathBuf, String)> {
    fn collect(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("cannot read a source directory") {
                collect(&entry.expect("cannot read a directory entry").path(), found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.to_owned());
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    for path in [source.join(layer), source.join(format!("{layer}.rs"))] {
        if path.exists() {
            collect(&path, &mut paths);
        }
    }
    assert!(!paths.is_empty(), "{layer} has no source file");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("cannot read a source file");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        (path, code.collect::<Vec<_>>().join("\n"))
    };
    paths.into_iter().map(read).collect()
}

/// Returns the modules that a file names after `crate::`.
fn named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (_, after) in code
        .match_indices("crate::")
        .map(|(at, found)| (at, &code[at + found.len()..]))
    {
        match after.strip_prefix('{') {
            None => names.push(after),
            Some(group) => {
                let mut depth = 0_u32;
                let mut start = true;
                for (at, character) in group.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        letter if start && !letter.is_whitespace() => {
                            names.push(&group[at..]);
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    let word = |text: &str| {
        let letters = text
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_');
        letters.collect::<String>()
    };
    names.into_iter().map(word).collect()
}

#[test]
fn a_layer_uses_only_the_layers_that_it_may_use() {
    let mut seen = 0;
    for (layer, allowed) in LAYERS {
        for (path, code) in files(layer) {
            for module in named(&code) {
                seen += 1;
                let is_allowed = module == *layer || allowed.contains(&module.as_str());
                assert!(is_allowed, "{} uses {module}", path.display());
            }
        }
    }
    assert!(seen > 50, "only {seen} uses were found");
}

#[test]
fn the_crates_of_dynamodb_kms_and_lambda_are_named_only_in_their_layers() {
    for (name, owner) in CRATES {
        for (layer, _) in LAYERS {
            if owner.split(" or ").any(|owner| owner == *layer) {
                continue;
            }
            for (path, code) in files(layer) {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn all_methods_of_app_are_in_one_file() {
    for (layer, _) in LAYERS {
        for (path, code) in files(layer) {
            let is_app = path.ends_with("service/app.rs");
            assert!(
                is_app || !code.contains("impl App "),
                "{} adds methods to App",
                path.display()
            );
        }
    }
}

/// The calls that must stay in one place, so that a new rule needs to be added only there: the
/// call, the file that may contain it, and the number of times that it does.
const CALLED_IN_ONE_PLACE: &[(&str, &str, usize)] = &[
    // Draws a token. Used by `tokens::create`.
    (" Token::generate(", "service/tokens.rs", 1),
    // Sends the writes that create, revoke or change tokens. Used by `tokens::create` and
    // `tokens::change`.
    (".commit(", "service/tokens.rs", 2),
    (".insert_token(", "service/tokens.rs", 1),
    // The right of whoever has the tables.
    ("fn of_operator(", "service/access.rs", 1),
    ("of_operator(", "service/access.rs", 1),
    // The user that is not there yet, without a look.
    ("of_new(", "service/access.rs", 1),
    // The table without a permit, for the start of a function.
    (".identity()", "src/main.rs", 1),
];

#[test]
fn what_bypasses_a_rule_is_called_in_one_place() {
    let layers = ["service", "http", "../../functions/src"];
    let sources: Vec<_> = layers.iter().flat_map(|layer| files(layer)).collect();
    for (call, file, times) in CALLED_IN_ONE_PLACE {
        let mut found = 0;
        for (path, code) in &sources {
            let calls = code.matches(call).count();
            assert!(
                calls == 0 || path.ends_with(file),
                "{} calls {call}",
                path.display()
            );
            found += calls;
        }
        assert_eq!(found, *times, "{call}");
    }
}
