//! The EndpointSlice behind the read Service: a member that suspects its peer takes it out, so that viewers are led to the
//! living one without the operator; heard again, it is put back. Conditional on the version read before. Nothing waits
//! for it (I9).

use std::time::Duration;

use failover::PeerReport;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::slice::{Me, ours};

/// How soon what failed is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How this member sees its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The peer.
    pub peer: String,
    /// Whether it is suspected.
    pub suspected: bool,
    /// The start of it that was heard last.
    pub incarnation: Option<u64>,
}

impl Sight {
    /// What a report says of the peer; nothing before it was heard or suspected.
    pub fn of(peer: &PeerReport) -> Option<Self> {
        (peer.suspected || peer.silent_ms.is_some()).then(|| Self {
            peer: peer.member.to_string(),
            suspected: peer.suspected,
            incarnation: peer.incarnation.map(|incarnation| incarnation.0),
        })
    }
}

/// An endpoint of the peer that this member took out.
#[derive(Clone, Debug, PartialEq)]
struct Taken {
    endpoint: Endpoint,
    incarnation: Option<u64>,
}

/// What has to change in a slice.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    endpoints: Option<Vec<Value>>,
    suspected: Option<String>,
}

/// Keeps the slice `name` in line with what is seen of the peer. Never returns while that is known.
pub async fn follow(client: Client, name: String, me: Me, mut sights: watch::Receiver<Option<Sight>>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &me.pair.namespace);
    let mut taken = None;
    while sights.changed().await.is_ok() {
        loop {
            let Some(sight) = sights.borrow_and_update().clone() else {
                break;
            };
            let done = tokio::time::timeout(TIMEOUT, bring(&api, &name, &me, &sight, &mut taken)).await;
            match done {
                Ok(Ok(())) => break,
                Ok(Err(e)) => tracing::warn!(slice = name, ?sight, "viewers cannot be led yet: {e}"),
                Err(_) => tracing::warn!(slice = name, ?sight, "the API server does not answer"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn bring(
    api: &Api<EndpointSlice>,
    name: &str,
    me: &Me,
    sight: &Sight,
    taken: &mut Option<Taken>,
) -> kube::Result<()> {
    let Some(now) = ours(api.get(name).await?, me) else {
        return Ok(());
    };
    if let Some(endpoint) = endpoints(&now)
        .find(|e| leads_to(e, &sight.peer))
        .filter(|_| sight.suspected)
    {
        *taken = Some(Taken {
            endpoint: endpoint.clone(),
            incarnation: sight.incarnation,
        });
    }
    let Some(change) = change(&now, me, sight, taken.as_ref()) else {
        return Ok(());
    };
    let mut patch = json!({"metadata": {
        "resourceVersion": now.metadata.resource_version,
        "annotations": {crds::names::ANNOTATION_SUSPECTED: change.suspected},
    }});
    if let Some(endpoints) = change.endpoints {
        patch["endpoints"] = endpoints.into();
    }
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    tracing::info!(slice = name, ?sight, "viewers are led");
    Ok(())
}

fn endpoints(slice: &EndpointSlice) -> impl Iterator<Item = &Endpoint> {
    slice.endpoints.iter().flatten()
}

fn leads_to(endpoint: &Endpoint, member: &str) -> bool {
    let target = endpoint.target_ref.as_ref().and_then(|t| t.name.as_deref());
    target == Some(member)
}

/// What to change, if anything. A slice is never left empty: two members that do not hear each other are both there for
/// viewers. An endpoint is put back for the same start of the peer only, since another one may have another address, and is
/// left to the operator.
fn change(slice: &EndpointSlice, me: &Me, sight: &Sight, taken: Option<&Taken>) -> Option<Change> {
    let named = slice.annotations().get(crds::names::ANNOTATION_SUSPECTED) == Some(&sight.peer);
    let mut all: Vec<Value> = endpoints(slice).map(|e| json!(e)).collect();
    let there = endpoints(slice).any(|e| leads_to(e, &sight.peer));
    if sight.suspected {
        let mut others: Vec<Value> = endpoints(slice)
            .filter(|e| !leads_to(e, &sight.peer))
            .map(|e| json!(e))
            .collect();
        if others.is_empty() {
            others.push(me.endpoint());
        }
        return (there || !named).then(|| Change {
            endpoints: there.then_some(others),
            suspected: Some(sight.peer.clone()),
        });
    }
    if !named {
        return None;
    }
    let back = taken.filter(|t| !there && t.incarnation == sight.incarnation);
    all.extend(back.map(|t| json!(t.endpoint)));
    Some(Change {
        endpoints: back.map(|_| all),
        suspected: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::slice::tests::me;
    use super::*;

    fn this() -> Me {
        me("front-1", "198.18.2.1")
    }

    fn peer() -> Me {
        me("front-0", "198.18.1.1")
    }

    fn slice(endpoints: &[&Me], suspected: Option<&str>) -> EndpointSlice {
        let endpoints: Vec<_> = endpoints.iter().map(|e| e.endpoint()).collect();
        let annotations = suspected.map(|s| json!({crds::names::ANNOTATION_SUSPECTED: s}));
        let slice = json!({
            "metadata": {"annotations": annotations}, "addressType": "IPv4", "endpoints": endpoints,
        });
        serde_json::from_value(slice).unwrap()
    }

    fn sight(suspected: bool, incarnation: u64) -> Sight {
        Sight {
            peer: "front-0".into(),
            suspected,
            incarnation: Some(incarnation),
        }
    }

    /// Names of the endpoints after a change, and whom the annotation names.
    fn after(change: Option<Change>) -> Option<(Option<Vec<String>>, Option<String>)> {
        let name = |e: &Value| e["targetRef"]["name"].as_str().unwrap().to_owned();
        let names = |endpoints: Vec<Value>| endpoints.iter().map(name).collect();
        change.map(|c| (c.endpoints.map(names), c.suspected))
    }

    fn suspecting(slice: &EndpointSlice) -> Option<(Option<Vec<String>>, Option<String>)> {
        after(change(slice, &this(), &sight(true, 1), None))
    }

    #[test]
    fn a_suspected_peer_is_taken_out_once() {
        let named = Some("front-0".to_owned());
        let both = slice(&[&peer(), &this()], None);
        let only = Some(vec!["front-1".to_owned()]);
        assert_eq!(suspecting(&both), Some((only, named.clone())));
        assert_eq!(suspecting(&slice(&[&this()], None)), Some((None, named)));
        assert_eq!(suspecting(&slice(&[&this()], Some("front-0"))), None);
    }

    #[test]
    fn a_slice_is_never_left_empty() {
        // The peer took this member out before: they do not hear each other.
        let only = Some(vec!["front-1".to_owned()]);
        let left = suspecting(&slice(&[&peer()], Some("front-1")));
        assert_eq!(left, Some((only, Some("front-0".to_owned()))));
    }

    #[test]
    fn the_same_start_of_the_peer_is_put_back_and_another_is_left_to_the_operator() {
        let endpoint = slice(&[&peer()], None).endpoints.unwrap().remove(0);
        let taken = Taken {
            endpoint,
            incarnation: Some(1),
        };
        let out = slice(&[&this()], Some("front-0"));
        let heard = |slice: &EndpointSlice, incarnation| {
            after(change(slice, &this(), &sight(false, incarnation), Some(&taken)))
        };
        let both = Some(vec!["front-1".to_owned(), "front-0".to_owned()]);
        assert_eq!(heard(&out, 1), Some((both, None)));
        assert_eq!(heard(&out, 2), Some((None, None)));
        let back = slice(&[&this(), &peer()], Some("front-0"));
        assert_eq!(heard(&back, 1), Some((None, None)), "the operator was first");
        assert_eq!(heard(&slice(&[&this()], None), 1), None);
    }
}
