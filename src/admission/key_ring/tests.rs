//! Who enters, who does not, and what those who do not are told.
//!
//! Invariants: none of its own.

use super::*;

const TEXT: &str = "sk-stiver-abc-secret";

fn key() -> KeyRecord {
    let hash = PresentedKey::parse(TEXT).unwrap().hash;
    KeyRecord {
        id: KeyId::from("abc"),
        hash,
        name: "ci".to_owned(),
        team: TeamName::from("search"),
        routes: None,
        created_ms: 0,
        expires_ms: None,
        revoked_ms: None,
        budgets: None,
    }
}

fn other_key() -> KeyRecord {
    KeyRecord { id: KeyId::from("xyz"), hash: KeyHash::of("sk-stiver-xyz-other"), ..key() }
}

fn ring(key: KeyRecord) -> KeyRing {
    KeyRing::new(BTreeMap::new(), [key])
}

fn refusal(ring: &KeyRing, presented: Option<&str>, now_ms: i64) -> KeyRefused {
    ring.admit(presented, now_ms).map(|_| ()).unwrap_err()
}

#[test]
fn the_right_key_opens_and_every_other_is_refused() {
    let ring = ring(key());

    assert_eq!(ring.admit(Some(TEXT), 0).unwrap().team.name.as_str(), "search");
    assert_eq!(refusal(&ring, None, 0), KeyRefused::Missing);
    assert_eq!(refusal(&ring, Some("sk-other"), 0), KeyRefused::Malformed);
    assert_eq!(refusal(&ring, Some("sk-stiver-abc-secreT"), 0), KeyRefused::Wrong);
    assert_eq!(refusal(&ring, Some("sk-stiver-xyz-secret"), 0), KeyRefused::Wrong);
}

#[test]
fn a_wrong_secret_and_an_unknown_id_are_refused_in_the_same_words() {
    let ended = KeyRecord { revoked_ms: Some(0), expires_ms: Some(0), ..key() };
    let rings = [ring(key()), ring(ended), KeyRing::new(BTreeMap::new(), [key(), other_key()])];

    for ring in rings {
        let told = ["abc-Xecret", "abc-seXret", "abc-secreX", "abc-other", "xyz-secret", "zzz-secret", "a-s"]
            .map(|rest| refusal(&ring, Some(&format!("sk-stiver-{rest}")), 0));

        assert!(told.iter().all(|one| *one == KeyRefused::Wrong), "{told:?}");
        assert!(told.iter().all(|one| one.to_string() == told[0].to_string()));
    }
}

#[test]
fn a_key_opens_under_its_own_id_alone() {
    // As a hash in the file can stand beside the wrong id.
    let misnamed = KeyRecord { id: KeyId::from("xyz"), ..key() };

    assert_eq!(refusal(&ring(misnamed.clone()), Some(TEXT), 0), KeyRefused::Wrong);
    assert!(KeyRing::new(BTreeMap::new(), [key(), misnamed]).admit(Some(TEXT), 0).is_ok());
}

#[test]
fn of_two_keys_with_one_id_the_later_opens() {
    let changed = KeyRecord { hash: KeyHash::of("sk-stiver-abc-changed"), ..key() };
    let ring = KeyRing::new(BTreeMap::new(), [key(), changed]);

    assert!(ring.admit(Some("sk-stiver-abc-changed"), 0).is_ok());
    assert_eq!(refusal(&ring, Some(TEXT), 0), KeyRefused::Wrong);
}

#[test]
fn a_revoked_or_expired_key_is_named_only_to_who_knows_its_secret() {
    let revoked = ring(KeyRecord { revoked_ms: Some(10), ..key() });
    let expired = ring(KeyRecord { expires_ms: Some(10), ..key() });

    assert!(revoked.admit(Some(TEXT), 9).is_ok());
    assert_eq!(refusal(&revoked, Some(TEXT), 10), KeyRefused::Revoked(KeyId::from("abc")));
    assert!(expired.admit(Some(TEXT), 9).is_ok());
    assert_eq!(refusal(&expired, Some(TEXT), 10), KeyRefused::Expired(KeyId::from("abc")));
    assert_eq!(refusal(&revoked, Some("sk-stiver-abc-guess"), 10), KeyRefused::Wrong);
}

#[test]
fn once_teams_are_configured_a_key_of_another_is_refused() {
    let team = Arc::new(Team::unlimited(&TeamName::from("serach")));
    let ring = KeyRing::new([(team.name.clone(), team)].into(), [key()]);

    assert_eq!(refusal(&ring, Some(TEXT), 0), KeyRefused::NoTeam(TeamName::from("search")));
}

#[test]
fn a_key_from_before_the_first_team_goes_on_and_a_later_one_needs_a_team() {
    let of_database =
        |created_ms| Team { term: Term::from(created_ms, None), ..Team::unlimited(&TeamName::from("other")) };
    for (first_ms, is_open) in [(10, true), (9, false)] {
        let teams = [of_database(first_ms), Team { name: TeamName::from("later"), ..of_database(20) }];
        let teams = teams.map(|team| (team.name.clone(), Arc::new(team)));
        let ring = KeyRing::new(teams.into(), [KeyRecord { created_ms: 10, ..key() }]);

        assert_eq!(ring.admit(Some(TEXT), 30).is_ok(), is_open, "{first_ms}");
        assert_eq!(ring.unlimited_teams(30).len(), usize::from(is_open));
    }
}

#[test]
fn a_team_that_has_ended_opens_nothing_and_is_named() {
    let name = TeamName::from("search");
    let ring_of = |team: Team| KeyRing::new([(name.clone(), Arc::new(team))].into(), [key()]);
    let ending = |expires_ms, revoked_ms| {
        let term = Term { expires_ms, revoked_ms, ..Term::ALWAYS };
        ring_of(Team { term, ..Team::unlimited(&name) })
    };
    let (expired, revoked) = (ending(Some(10), None), ending(None, Some(10)));

    assert!(expired.admit(Some(TEXT), 9).is_ok() && revoked.admit(Some(TEXT), 9).is_ok());
    assert_eq!(refusal(&expired, Some(TEXT), 10), KeyRefused::TeamExpired(name.clone()));
    assert_eq!(refusal(&revoked, Some(TEXT), 10), KeyRefused::TeamRevoked(name.clone()));
    assert_eq!(refusal(&revoked, Some("sk-stiver-abc-guess"), 10), KeyRefused::Wrong);
    assert!(!revoked.is_open(), "an ended team still closes the door");
}

#[test]
fn what_cannot_be_read_opens_nothing() {
    let name = TeamName::from("search");
    let unreadable = Team::unreadable(&name, Term::from(0, None));
    let by_team = KeyRing::new([(name.clone(), Arc::new(unreadable))].into(), [key()]);
    let by_key = ring(key()).without([KeyId::from("abc")].into());

    for ring in [by_team, by_key] {
        assert_eq!(refusal(&ring, Some(TEXT), 5), KeyRefused::Unreadable(name.clone()));
    }
}

#[test]
fn a_webhook_is_shown_by_its_place_alone() {
    for (url, expected) in [
        ("https://hooks.example/services/T0/s3cret", "https://hooks.example/…"),
        ("http://user:s3cret@hooks.example:8080?token=s3cret", "http://hooks.example:8080/…"),
        ("https://a@s3cret@h", "https://h/…"),
        ("https://h#s3cret@x", "https://h/…"),
        ("https://h\\s3cret", "https://h/…"),
        ("s3cret", ":///…"),
    ] {
        assert_eq!(shown_webhook(url), expected);
    }
}

#[test]
fn without_any_key_or_team_anybody_may_call() {
    let open = KeyRing::new(BTreeMap::new(), []);
    let team = Arc::new(Team::unlimited(&TeamName::from("t")));
    let with_team = KeyRing::new([(team.name.clone(), team)].into(), []);

    assert!(open.admit(None, 0).is_ok() && open.admit(Some("anything"), 0).is_ok());
    assert_eq!(refusal(&with_team, Some("anything"), 0), KeyRefused::Malformed);
}

#[test]
fn a_route_must_be_open_to_the_team_and_to_the_key() {
    let names = |names: [&str; 2]| names.map(RouteName::from);
    let team = Team { routes: Some(names(["a", "b"]).into()), ..Team::unlimited(&TeamName::from("search")) };
    let ring = KeyRing::new(
        [(team.name.clone(), Arc::new(team))].into(),
        [KeyRecord { routes: Some(names(["b", "c"]).into()), ..key() }],
    );

    let caller = ring.admit(Some(TEXT), 0).unwrap();

    let asked = ["a", "b", "c"].map(|route| caller.may_ask(&RouteName::from(route)));
    assert_eq!(asked, [false, true, false]);
}
