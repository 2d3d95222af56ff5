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

/// The crates that only certain layers may use. Each entry contains the name of a crate, and the
/// layers that may use the crate.
const CRATES: &[(&str, &str)] = &[
    ("aws_sdk_dynamodb", "store"),
    ("aws_sdk_kms", "service or store"),
    ("lambda_http", "http"),
    ("tokenry_api", "domain or http"),
];

/// Returns the path of each source file of a layer, and the text of the file without comment lines.
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

/// Returns the names of the modules that follow `crate::` in the text of a file.
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
                assert!(is_allowed, "{} must not use {module}", path.display());
            }
        }
    }
    assert!(seen > 50, "only {seen} uses of modules were found");
}

#[test]
fn the_crates_for_dynamodb_kms_lambda_and_the_api_are_used_only_in_their_layers() {
    for (name, owner) in CRATES {
        for (layer, _) in LAYERS {
            if owner.split(" or ").any(|owner| owner == *layer) {
                continue;
            }
            for (path, code) in files(layer) {
                assert!(
                    !code.contains(name),
                    "{} must not contain {name}",
                    path.display()
                );
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
                "{} must not add methods to App",
                path.display()
            );
        }
    }
}

/// The calls that must stay in one file, so that a new rule needs to be added only there. Each
/// entry has the text of the call, the file, and how many times the file contains the text.
const CALLED_IN_ONE_PLACE: &[(&str, &str, usize)] = &[
    // Generates a token. Only `tokens::create` calls this.
    (" Token::generate(", "service/tokens.rs", 1),
    // Sends the writes that create, revoke or change tokens. Only `tokens::create` and
    // `tokens::change` call this.
    (".commit(", "service/tokens.rs", 2),
    (".insert_token(", "service/tokens.rs", 1),
    // Return a proof without checking a caller (`MayWrite` and `Grant`). Only the definitions of
    // these two functions are allowed in these layers, no call.
    ("fn of_operator(", "service/access.rs", 2),
    ("of_operator(", "service/access.rs", 2),
    // Creates a slot without reading the user. Only the definition of this function is allowed in
    // these layers, no call.
    ("of_new(", "service/access.rs", 1),
    // Gives access to the table without a permit.
    (".identity()", "no file", 0),
];

#[test]
fn each_call_that_bypasses_a_rule_is_only_in_its_file() {
    let layers = ["service", "http", "../../functions/src"];
    let sources: Vec<_> = layers.iter().flat_map(|layer| files(layer)).collect();
    for (call, file, times) in CALLED_IN_ONE_PLACE {
        let mut found = 0;
        for (path, code) in &sources {
            let calls = code.matches(call).count();
            assert!(
                calls == 0 || path.ends_with(file),
                "{} must not contain the call {call}",
                path.display()
            );
            found += calls;
        }
        assert_eq!(found, *times, "how many times {file} contains {call}");
    }
}
