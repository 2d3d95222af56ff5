//! Runs each fuzz target with the files of its corpus. The test fails if a bug that fuzzing found
//! comes back.

use std::{fs, path::Path};

#[test]
fn every_fuzz_target_passes_with_every_file_of_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut targets = Vec::new();
    for (name, target) in tests::fuzz::TARGETS {
        let files = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("cannot read the corpus of {name}: {error}"));
        let mut count = 0;
        for file in files {
            let file = file.unwrap().path();
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
        targets.push((*name).to_owned());
    }
    let folders = fs::read_dir(corpus).unwrap();
    let mut folders: Vec<_> = folders
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort_unstable();
    assert_eq!(
        folders, targets,
        "each folder of the corpus has a fuzz target"
    );
}
