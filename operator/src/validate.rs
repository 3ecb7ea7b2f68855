//! What is wrong with what was asked for, beyond what the API server checks.

use crds::names;
use failover::Settings;
use kube::ResourceExt as _;

use crate::problem::{Problem, Reason};
use crate::world::World;

/// Everything that is wrong; what is right is done all the same.
pub fn validate(world: &World, image: Option<&str>) -> Vec<Problem> {
    let credentials = world
        .credentials
        .values()
        .filter_map(|found| found.as_ref().err().cloned());
    let mut problems: Vec<Problem> = credentials.collect();
    let failover = &world.pair.spec.failover;
    let settings = Settings::with(failover.leash.get(), failover.suspect_after.get());
    if let Err(error) = settings.check() {
        let message = format!("spec.failover cannot work: {error}; take a longer leash");
        problems.push(Problem::new(Reason::InvalidSpec, "failover", message));
    }
    problems.extend(switchover(world));
    if image.is_none() {
        let message = "no image: set spec.image, or start the operator with --member-image".to_owned();
        problems.push(Problem::new(Reason::InvalidSpec, "image", message));
    }
    problems
}

/// A switchover to nobody.
fn switchover(world: &World) -> Option<Problem> {
    let to = world.pair.annotations().get(names::ANNOTATION_SWITCHOVER)?;
    let members = world.members();
    (!members.contains(to)).then(|| {
        let message = format!(
            "annotation {} names {to:?}, which is no member: use {:?} or {:?}",
            names::ANNOTATION_SWITCHOVER,
            members[0],
            members[1]
        );
        Problem::new(Reason::InvalidSpec, "switchover", message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::{IMAGE, new_pair, with_password};

    fn reasons(world: &World, image: Option<&str>) -> Vec<(Reason, String)> {
        let problems = validate(world, image).into_iter();
        problems
            .map(|problem| (problem.reason, problem.subject))
            .collect()
    }

    fn of_failover(failover: &Value) -> Vec<(Reason, String)> {
        reasons(&new_pair(&json!({ "failover": failover })), Some(IMAGE))
    }

    #[test]
    fn whatever_the_api_server_takes_can_work() {
        let cases = [
            json!({}),
            json!({ "leash": "200ms", "suspectAfter": "100ms" }),
            json!({ "leash": "200ms", "suspectAfter": "199ms" }),
            json!({ "leash": "10s", "suspectAfter": "100ms" }),
            json!({ "leash": "10s", "suspectAfter": "5s", "leaseDuration": "5m" }),
        ];
        for failover in cases {
            assert_eq!(of_failover(&failover), [], "{failover}");
        }
    }

    #[test]
    fn times_that_do_not_fit_are_refused() {
        let cases = [
            json!({ "leash": "50ms", "suspectAfter": "20ms" }),
            json!({ "leash": "11s" }),
            json!({ "leash": "500ms", "suspectAfter": "600ms" }),
        ];
        for failover in cases {
            let expected = [(Reason::InvalidSpec, "failover".to_owned())];
            assert_eq!(of_failover(&failover), expected, "{failover}");
        }
    }

    #[test]
    fn an_image_must_come_from_somewhere() {
        let expected = [(Reason::InvalidSpec, "image".to_owned())];
        assert_eq!(reasons(&new_pair(&json!({})), None), expected);
    }

    #[test]
    fn a_switchover_goes_to_a_member() {
        for (to, expected) in [("front-0", 0), ("front-1", 0), ("front-2", 1), ("", 1)] {
            let mut world = new_pair(&json!({}));
            let annotations = json!({ names::ANNOTATION_SWITCHOVER: to });
            let pair = std::sync::Arc::make_mut(&mut world.pair);
            crate::fixtures::change(pair, &json!({ "metadata": { "annotations": annotations } }));
            let told = reasons(&world, Some(IMAGE));
            let problem = (Reason::InvalidSpec, "switchover".to_owned());
            assert_eq!(told, vec![problem; expected], "{to:?}");
        }
    }

    #[test]
    fn a_missing_password_is_one_problem_among_others() {
        let mut world = new_pair(&with_password());
        let problem = Problem::new(Reason::CredentialsMissing, "door", "no Secret".to_owned());
        world.credentials.insert("door".to_owned(), Err(problem.clone()));
        assert_eq!(validate(&world, Some(IMAGE)), [problem]);
        assert_eq!(reasons(&world, None).len(), 2);
    }
}
