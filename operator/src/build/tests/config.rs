//! The rendered configuration: streams, their UIDs and passwords.

use super::*;

#[test]
fn members_know_each_other_by_address() {
    let mut world = at_rest(&json!({}));
    world.addresses.insert("front-1".to_owned(), "fd00::1".to_owned());
    let config = config(&built(&world)).unwrap();
    let expected = json!([
        { "name": "front-0", "peer": "198.18.0.10:7443" },
        { "name": "front-1", "peer": "[fd00::1]:7443" },
    ]);
    assert_eq!(config["members"], expected);
}

#[test]
fn media_may_fill_nine_tenths_of_a_volume_unless_its_user_says_otherwise() {
    let max_bytes = |spec: &Value| config(&built(&at_rest(spec))).unwrap()["retention"]["maxBytes"].clone();
    assert_eq!(max_bytes(&json!({ "storage": { "size": "10Ki" } })), 9216);
    let retention = json!({ "storage": { "retention": { "maxSize": "1Ki" } } });
    assert_eq!(max_bytes(&retention), 1024);
}

fn lost() -> Result<crate::world::Credentials, Problem> {
    let message = "Secret \"cameras\" does not exist".to_owned();
    Err(Problem::new(Reason::CredentialsMissing, "door", message))
}

#[test]
fn a_stream_that_lost_its_secret_keeps_the_password_that_was_rendered() {
    let mut world = at_rest(&with_password());
    world.credentials.insert("door".to_owned(), lost());
    let config = config(&built(&world)).unwrap();
    assert_eq!(config["streams"][0]["username"], "admin");
    assert_eq!(config["streams"][0]["password"], PASSWORD);
}

#[test]
fn a_password_that_was_rendered_goes_to_no_other_host() {
    let mut world = at_rest(&with_password());
    let mut elsewhere = with_password();
    elsewhere["streams"][0]["url"] = json!("rtsp://another/stream");
    ask(&mut world, &elsewhere);
    world.credentials.insert("door".to_owned(), lost());
    assert!(stream_names(&config(&built(&world)).unwrap()).is_empty());
}

#[test]
fn a_stream_that_never_had_a_password_is_left_out_and_the_others_go_on() {
    let mut world = at_rest(&streams(&["yard"]));
    let credentials = json!({ "secretName": "cameras" });
    let mut spec = streams(&["yard", "door"]);
    spec["streams"][1]["credentials"] = credentials;
    ask(&mut world, &spec);
    world.credentials.insert("door".to_owned(), lost());
    assert_eq!(stream_names(&config(&built(&world)).unwrap()), ["yard"]);
}

#[test]
fn a_new_pair_records_as_soon_as_its_members_have_addresses() {
    let mut world = new_pair(&streams(&["door", "yard"]));
    pass(&mut world);
    let second = pass(&mut world);
    assert_eq!(second.waiting, None);
    assert_eq!(stream_names(&config(&second).unwrap()), ["door", "yard"]);
}

#[test]
fn no_volume_is_made_before_the_uids_of_its_streams_are_kept() {
    let mut world = new_pair(&json!({}));
    let is_claim = |object: &&Object| object.is::<PersistentVolumeClaim>();
    assert_eq!(objects(&pass(&mut world)).filter(is_claim).count(), 0);
    let second = pass(&mut world);
    let order: Vec<String> = objects(&second).map(|object| format!("{object:?}")).collect();
    let place = |name: &str| order.iter().position(|object| object == name).unwrap();
    assert!(place("Secret front-config") < place("PersistentVolumeClaim media-front-0"));
    assert!(place("PersistentVolumeClaim media-front-1") < place("Pod front-0"));
}

/// Volumes that were used before, by members that run or not, in a pair whose Secrets are gone.
fn adopting(running: bool) -> World {
    let mut world = at_rest(&json!({}));
    world.rendered = None;
    world.view = Arc::default();
    if !running {
        world.pods.clear();
    }
    world
}

#[test]
fn used_volumes_are_asked_for_their_streams_before_any_is_rendered() {
    let told = at_rest(&json!({})).rendered.unwrap().minted["door"];
    let mut world = adopting(false);
    let built = pass(&mut world);
    assert!(built.waiting.is_some());
    assert_eq!(on_pods(&built), ["create front-0", "create front-1"]);
    assert!(stream_names(&config(&built).unwrap()).is_empty());
    assert!(world.rendered.as_ref().unwrap().recovering);

    let again = pass(&mut world);
    assert!(again.waiting.is_some(), "nobody has told yet");
    assert!(on_pods(&again).is_empty(), "{:?}", again.effects);

    world.view = at_rest(&json!({})).view;
    for member in ["front-0", "front-1"] {
        said(&mut world, member).streams[0].uid = told;
    }
    let built = pass(&mut world);
    let config = config(&built).unwrap();
    assert_eq!(config["streams"][0]["uid"], json!(told));
    assert_eq!(built.waiting, None);
    assert!(!world.rendered.as_ref().unwrap().recovering);
}

#[test]
fn members_that_run_go_on_with_what_they_have_until_they_tell_their_streams() {
    let mut world = adopting(true);
    let built = pass(&mut world);
    assert!(built.waiting.is_some());
    assert!(config(&built).is_none());
    assert!(on_pods(&built).is_empty());
}

#[test]
fn every_uid_is_kept_beside_the_configuration() {
    let mut world = at_rest(&streams(&["door", "yard"]));
    let before = world.rendered.clone().unwrap().minted;
    ask(&mut world, &streams(&["yard"]));
    let built = pass(&mut world);
    assert_eq!(stream_names(&config(&built).unwrap()), ["yard"]);
    assert_eq!(world.rendered.unwrap().minted, before);
}
