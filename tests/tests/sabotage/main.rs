//! A suite that cannot fail proves nothing. Each invariant is broken on purpose, by a switch at run time in the programs of
//! the very tests that `make unit` runs, and the tests that hold it must turn red, each in its own words. Without a switch they
//! are green.
#![allow(clippy::unwrap_used, reason = "a test")]

mod cases;
mod programs;

use std::collections::BTreeSet;

use cases::CASES;
use programs::Program;

/// The tests that notice `invariant` turn red for it.
fn turns_red(invariant: &str) {
    let case = CASES.iter().find(|case| case.invariant == invariant).unwrap();
    for &(target, test, says) in case.noticed_by {
        let outcome = Program::of(target).run(&[test], invariant);
        let failed = outcome.failure(test);
        let words =
            failed.unwrap_or_else(|| panic!("{invariant} is broken, and {test} does not fail:\n{outcome}"));
        assert!(
            words.contains(says),
            "{test} fails, but not for {invariant}, with {says:?}:\n{words}"
        );
    }
}

#[test]
fn i1_turns_red() {
    turns_red("I1");
}

#[test]
fn i2_turns_red() {
    turns_red("I2");
}

#[test]
fn i3_turns_red() {
    turns_red("I3");
}

#[test]
fn i4_turns_red() {
    turns_red("I4");
}

#[test]
fn i5_turns_red() {
    turns_red("I5");
}

#[test]
fn i6_turns_red() {
    turns_red("I6");
}

#[test]
fn i7_turns_red() {
    turns_red("I7");
}

#[test]
fn i8_turns_red() {
    turns_red("I8");
}

#[test]
fn i9_turns_red() {
    turns_red("I9");
}

#[test]
fn i10_turns_red() {
    turns_red("I10");
}

#[test]
fn i11_turns_red() {
    turns_red("I11");
}

#[test]
fn i12_turns_red() {
    turns_red("I12");
}

#[test]
fn without_a_switch_all_of_them_are_green() {
    let all = || CASES.iter().flat_map(|case| case.noticed_by);
    let targets: BTreeSet<&str> = all().map(|(target, ..)| *target).collect();
    for target in targets {
        let tests: Vec<&str> = all().filter(|red| red.0 == target).map(|red| red.1).collect();
        let outcome = Program::of(target).run(&tests, "");
        for test in tests {
            assert!(
                outcome.passed(test),
                "{test} is not green without a switch:\n{outcome}"
            );
        }
    }
}

#[test]
fn a_misspelt_switch_is_no_green_test() {
    let test = "i2_a_seal_replaces_nothing";
    let outcome = Program::of("segments").run(&[test], "I13");
    assert!(
        outcome
            .failure(test)
            .is_some_and(|words| words.contains("no such invariant")),
        "{outcome}"
    );
}

/// The images are built of programs that `hack/no-sabotage` lets pass.
#[test]
fn no_image_gets_a_program_that_has_the_switches() {
    let (sabotage, other) = (Program::of("recorder"), Program::of("generated"));
    let refused = programs::script("hack/no-sabotage", &[other.path(), sabotage.path()]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("has the feature 'sabotage'"),
        "{refused:?}"
    );
    let passes = programs::script("hack/no-sabotage", &[other.path()]);
    assert!(passes.status.success(), "{passes:?}");
    let images = std::fs::read_to_string(programs::repository().join("hack/images")).unwrap();
    assert!(
        images.contains("hack/no-sabotage \"${@/#/$bin/}\""),
        "hack/images does not ask"
    );
}

#[test]
fn the_table_in_contributing_is_this_one() {
    let text = std::fs::read_to_string(programs::repository().join("CONTRIBUTING.md")).unwrap();
    for case in &CASES {
        let tests: Vec<String> = case
            .noticed_by
            .iter()
            .map(|red| format!("`{}`", red.1.rsplit("::").next().unwrap()))
            .collect();
        let row = format!("| {} | {} | {} |", case.invariant, case.breaks, tests.join(", "));
        assert!(text.contains(&row), "CONTRIBUTING.md lacks this row:\n{row}");
    }
}
