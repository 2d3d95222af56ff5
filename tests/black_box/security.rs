//! `docs/explanation/security.md` states the chances of guessing a short code. The test computes
//! these chances and compares them with the document.

use shared::{config::Settings, domain::shortcode::ALPHABET};

/// Returns the chance that at least one of several guesses is correct. `chance` is the chance that
/// a single guess is correct.
fn of_guesses(chance: f64, guesses: f64) -> f64 {
    -(guesses * (-chance).ln_1p()).exp_m1()
}

#[test]
fn the_document_states_the_correct_chances_of_guessing_a_short_code() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let text = std::fs::read_to_string(root.join("docs/explanation/security.md")).unwrap();
    let alphabet = f64::from(u32::try_from(ALPHABET.len()).unwrap());
    let failures = f64::from(Settings::default().shortcode_failures_per_minute);
    let of_one_code = of_guesses(1.0 / alphabet.powi(6), failures * (300.0 / 60.0 + 1.0));
    assert!(
        text.contains(&format!("{of_one_code:.1e}").replace("e-", "e-0")),
        "the document does not say {of_one_code:e}"
    );

    let mut rows = 0;
    for length in [6, 8, 10] {
        for live in [100_u32, 10_000, 1_000_000] {
            let guess = f64::from(live) / alphabet.powi(length);
            let chances = [
                guess,
                of_guesses(guess, 5.0 * 96.0),
                of_guesses(guess, failures * 1440.0),
            ];
            let row = text
                .lines()
                .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
                .find(|row| {
                    row.len() == 7
                        && row[1] == length.to_string()
                        && row[2].replace(',', "") == live.to_string()
                })
                .unwrap_or_else(|| {
                    panic!("the document has no row for {length} characters and {live} codes")
                });
            for (said, chance) in row[3..6].iter().zip(chances) {
                let said: f64 = said.parse().unwrap();
                assert!(
                    (said - chance).abs() <= chance * 0.05,
                    "{length} characters, {live} codes: the document says {said}, not {chance}"
                );
            }
            rows += 1;
        }
    }
    assert_eq!(rows, 9);
}
