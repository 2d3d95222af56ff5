//! The layers of this crate, which use one another in one direction.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer, and the ones that it may use besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("log", &[]),
    ("metrics", &["domain"]),
    ("store", &["domain"]),
    ("service", &["config", "domain", "metrics", "store"]),
    ("http", &["domain", "service"]),
];

/// The crates that one layer alone may name, and that layer.
const CRATES: &[(&str, &str)] = &[
    ("aws_sdk_dynamodb", "store"),
    ("aws_sdk_kms", "service or store"),
    ("lambda_http", "http"),
];

/// The source files of a layer, each with its text. Lines of comments are left out.
fn files(layer: &str) -> Vec<(PathBuf, String)> {
    fn collect(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("a directory") {
                collect(&entry.expect("an entry").path(), found);
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
    assert!(!paths.is_empty(), "{layer} has no file");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        (path, code.collect::<Vec<_>>().join("\n"))
    };
    paths.into_iter().map(read).collect()
}

/// The modules that a file names after `crate::`.
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
fn a_layer_uses_only_the_layers_that_it_may() {
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
    assert!(seen > 50, "{seen} uses were found");
}

#[test]
fn one_layer_alone_names_the_database_and_one_the_gateway() {
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
fn the_app_has_its_methods_in_one_file() {
    for (layer, _) in LAYERS {
        for (path, code) in files(layer) {
            let is_app = path.ends_with("service/app.rs");
            assert!(is_app || !code.contains("impl App "), "{}", path.display());
        }
    }
}

/// What one function alone may do, so that a rule is added there once: the call, the file that it is in, and how often
/// it is there.
const ONE_DOOR: &[(&str, &str, usize)] = &[
    // Draws a token: `tokens::make`.
    ("Token::draw(", "service/tokens.rs", 1),
    // Sends what makes, ends or changes tokens: `tokens::make` and `tokens::change`.
    ("identity.commit(", "service/tokens.rs", 2),
    ("insert_token(", "service/tokens.rs", 1),
];

#[test]
fn one_function_makes_tokens_and_one_ends_them() {
    for (call, file, times) in ONE_DOOR {
        let mut found = 0;
        for layer in ["service", "http"] {
            for (path, code) in files(layer) {
                let calls = code.matches(call).count();
                assert!(
                    calls == 0 || path.ends_with(file),
                    "{} calls {call}",
                    path.display()
                );
                found += calls;
            }
        }
        assert_eq!(found, *times, "{call}");
    }
}

#[test]
fn no_function_takes_the_operators_right() {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions/src");
    let mut seen = 0;
    for entry in fs::read_dir(functions).expect("the functions") {
        let path = entry.expect("an entry").path();
        let code = fs::read_to_string(&path).expect("a source file");
        assert!(!code.contains("of_operator"), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 20, "{seen} files were read");
}
