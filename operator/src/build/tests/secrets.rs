//! Who gets to see a secret.

use super::*;

/// Whether a text is in an object as it is written, plainly or in Base64, under any offset.
fn holds(object: &Object, text: &str) -> bool {
    let decoded = |value: &Value| match serde_json::from_value::<ByteString>(value.clone()) {
        Ok(ByteString(bytes)) => String::from_utf8_lossy(&bytes).contains(text),
        Err(_) => false,
    };
    let data = object.value["data"].as_object();
    let encoded = data.is_some_and(|data| data.values().any(decoded));
    encoded || object.value.to_string().contains(text)
}

#[test]
fn a_secret_is_in_one_object_only() {
    let world = at_rest(&with_password());
    let mut fresh = new_pair(&with_password());
    fresh.keys = world.keys.clone();
    let passes = [pass(&mut fresh), pass(&mut fresh)];
    let keys = &world.keys;
    let secrets = [
        ("a camera's password", PASSWORD, "Secret front-config"),
        (
            "the viewers' token",
            keys.token.as_ref().unwrap().expose(),
            "Secret front-viewer",
        ),
        (
            "the authority's key",
            keys.authority.as_ref().unwrap().0.key.expose(),
            "Secret front-ca",
        ),
        (
            "the operator's key",
            keys.operator.as_ref().unwrap().key.expose(),
            "Secret front-ca",
        ),
        (
            "a member's key",
            keys.members["front-1"].key.expose(),
            "Secret front-tls-1",
        ),
    ];
    for (what, secret, place) in secrets {
        let holding = passes
            .iter()
            .flat_map(objects)
            .filter(|object| holds(object, secret));
        let mut names: Vec<String> = holding.map(|object| format!("{object:?}")).collect();
        names.dedup();
        assert_eq!(names, [place], "{what}");
    }
}

#[test]
fn the_process_that_talks_to_strangers_knows_no_password() {
    let built = built(&at_rest(&with_password()));
    let secret = find::<Secret>(&built, "front-config").unwrap();
    assert!(data(secret, names::KEY_CONFIG).contains(PASSWORD));
    let text = data(secret, names::KEY_REPLICATOR_CONFIG);
    assert!(!text.contains(PASSWORD) && !text.contains("admin"));
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["members"][1]["name"], "front-1");
    let pod = first::<Pod>(&json!({}), "front-0");
    let mut volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    let volume = volumes
        .find(|volume| volume["name"] == "replicator-config")
        .unwrap();
    let items = json!([{ "key": names::KEY_REPLICATOR_CONFIG, "path": "config.json" }]);
    assert_eq!(volume["secret"]["items"], items);
}

#[test]
fn debug_shows_no_secret() {
    let world = at_rest(&with_password());
    let minted = mint(&world).unwrap();
    let text = format!("{world:?} {minted:?} {:?}", built(&world));
    let token = minted.token.expose().to_owned();
    assert!(text.contains("front-config") && text.contains("admin"));
    for secret in [PASSWORD, &token, "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{secret} is shown");
    }
}

#[test]
fn the_hash_of_a_configuration_changes_with_a_password_and_does_not_tell_it() {
    let hash = |password: &str| {
        let mut world = at_rest(&with_password());
        let found = world.credentials.get_mut("door").unwrap().as_mut().unwrap();
        found.password = crds::Secret::new(password);
        let built = built(&world);
        let plain =
            blake3::hash(data(find::<Secret>(&built, "front-config").unwrap(), "config.json").as_bytes());
        let annotation = built.effects.iter().find_map(|effect| match effect {
            Effect::Annotate { annotation, .. } => Some(annotation.1.clone()),
            _ => None,
        });
        assert!(
            annotation
                .as_ref()
                .is_none_or(|hash| !plain.to_hex().contains(hash))
        );
        annotation
    };
    assert_eq!(hash(PASSWORD), None);
    assert!(hash("another").is_some());
}

#[test]
fn only_what_was_made_at_random_just_now_is_required() {
    const ALL: &[&str] = &["Secret front-viewer", "Secret front-ca", "Secret front-config"];
    type Change = fn(&mut World);
    let cases: [(&str, Change, &[&str]); 6] = [
        ("a new pair", |w| (w.keys, w.rendered) = Default::default(), ALL),
        ("all is there", |_| (), &[]),
        ("a certificate is renewed", |w| w.keys.operator = None, &[]),
        ("no token", |w| w.keys.token = None, &ALL[..1]),
        ("no authority", |w| w.keys.authority = None, &ALL[1..2]),
        ("no configuration", |w| w.rendered = None, &ALL[2..]),
    ];
    for (what, change, expected) in cases {
        let mut world = at_rest(&json!({}));
        change(&mut world);
        let built = built(&world);
        let required = built.effects.iter().filter_map(|effect| match effect {
            Effect::Require(object) => Some(format!("{object:?}")),
            _ => None,
        });
        assert_eq!(required.collect::<Vec<_>>(), expected, "{what}");
    }
}

#[test]
fn the_authority_is_written_before_what_it_signs_and_after_all_that_does_not_need_it() {
    let mut world = new_pair(&json!({}));
    world.addresses = at_rest(&json!({})).addresses;
    let order: Vec<String> = objects(&built(&world))
        .map(|object| format!("{object:?}"))
        .collect();
    let place = |name: &str| order.iter().position(|object| object == name).unwrap();
    let authority = place("Secret front-ca");
    for before in ["Secret front-viewer", "Service front-1", "EndpointSlice front"] {
        assert!(place(before) < authority, "{before}");
    }
    for after in [
        "Secret front-tls-0",
        "Secret front-tls-1",
        "Secret front-config",
        "Pod front-0",
    ] {
        assert!(authority < place(after), "{after}");
    }
}
