//! Replays the fuzzers' corpus, so that the bugs that they found stay fixed.

use std::{fs, path::Path};

#[test]
fn every_file_of_the_corpus_passes_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut targets = Vec::new();
    for (name, target) in tests::fuzz::TARGETS {
        let files =
            fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut count = 0;
        for file in files {
            let file = file.unwrap().path();
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
        targets.push((*name).to_owned());
    }
    let folders = fs::read_dir(corpus).unwrap();
    let mut folders: Vec<_> = folders
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort_unstable();
    assert_eq!(folders, targets, "each corpus has a target");
}
