//! Services, their slices, and who is led where.

use super::*;

#[test]
fn viewers_are_led_by_slices_and_peers_by_selectors() {
    for name in ["front", "front-primary"] {
        let service = first::<Service>(&json!({}), name);
        assert_eq!(service["spec"]["selector"], Value::Null, "{name}");
        let slice = first::<EndpointSlice>(&json!({}), name);
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], name);
        assert_eq!(slice["endpoints"], json!([]), "{name}");
    }
    let service = first::<Service>(&json!({}), "front-1");
    assert_eq!(service["spec"]["selector"][names::LABEL_MEMBER], "front-1");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
}

#[test]
fn i5_the_slice_of_the_primary_is_made_once_in_epoch_0_and_then_left_to_who_takes() {
    let slice = first::<EndpointSlice>(&json!({}), "front-primary");
    assert_eq!(slice["metadata"]["annotations"][names::ANNOTATION_EPOCH], "0");
    let built = built(&at_rest(&json!({})));
    assert!(find::<EndpointSlice>(&built, "front-primary").is_none());
}

#[test]
fn any_member_that_answers_can_be_read_from() {
    let led_to = |world: &World| {
        let built = built(world);
        let slice = find::<EndpointSlice>(&built, "front").unwrap().clone();
        let endpoints = slice["endpoints"].as_array().unwrap().iter();
        let addresses = endpoints.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned());
        addresses.collect::<Vec<_>>()
    };
    let mut world = at_rest(&json!({}));
    assert_eq!(led_to(&world), ["198.18.1.1", "198.18.2.1"]);
    let both = led_to(&world);
    silence(&mut world, "front-0");
    assert_eq!(led_to(&world), ["198.18.2.1"]);
    silence(&mut world, "front-1");
    let slice = |world: &World| find::<EndpointSlice>(&built(world), "front").is_some();
    assert!(!slice(&world), "nobody answers: viewers are led as they were");
    world.read_slice = false;
    assert!(slice(&world), "a new one leads to nobody");

    let with = |out: Option<&str>, doubts: [Doubt; 2]| {
        let mut world = at_rest(&json!({}));
        world.taken_out = out.map(str::to_owned);
        let view = Arc::make_mut(&mut world.view);
        for (seen, doubt) in view.reports.values_mut().zip(doubts) {
            seen.doubt = doubt;
        }
        world
    };
    let table = [
        (
            None,
            [Doubt::Confirmed, Doubt::None],
            false,
            "its peer suspects it, and it is silent",
        ),
        (
            Some("front-0"),
            [Doubt::None; 2],
            false,
            "the view is older than the suspicion",
        ),
        (Some("front-0"), [Doubt::Refuted, Doubt::None], true, "it answers"),
        (None, [Doubt::Refuted; 2], true, "they do not hear each other"),
        (Some("gate-9"), [Doubt::None; 2], true, "nobody of this pair"),
        (None, [Doubt::Confirmed; 2], true, "somebody has to be led to"),
    ];
    for (out, doubts, led, why) in table {
        let found = led_to(&with(out, doubts));
        assert_eq!(found, both[usize::from(!led)..], "{why}");
    }
    let mut alone = with(Some("front-0"), [Doubt::None; 2]);
    silence(&mut alone, "front-1");
    assert_eq!(led_to(&alone), ["198.18.1.1"], "whoever took it out is gone");
}
