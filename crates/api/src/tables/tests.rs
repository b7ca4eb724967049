use apimachinery::schema::{ListType, Omit, Shape};

use super::*;

#[test]
fn types_are_what_upstream_declares() {
    let schema = schema();
    let container = &schema[schema.find("io.k8s.api.core.v1.Container").unwrap()];
    assert_eq!(container.message(), "k8s.io.api.core.v1.Container");
    let ports = container.field("ports").unwrap();
    assert_eq!((ports.tag, ports.pointer, ports.omit), (6, false, Omit::Empty));
    let list = ports.shape.as_list().unwrap();
    assert_eq!((list.kind, &*list.keys), (ListType::Map, &["containerPort".into(), "protocol".into()][..]));
    assert_eq!(ports.patch.key.as_deref(), Some("containerPort"));
    let policy = schema.named(container.field("imagePullPolicy").unwrap().named.unwrap()).unwrap();
    assert_eq!((policy.go_name(), policy.values.len()), ("v1.PullPolicy", 3));

    let volume = &schema[schema.find("io.k8s.api.core.v1.Volume").unwrap()];
    assert_eq!(volume.fields[0].name, "name");
    assert_eq!(volume.field("emptyDir").unwrap().via, "VolumeSource");
    let meta = &schema[schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap()];
    assert_eq!(meta.field("creationTimestamp").unwrap().omit, Omit::Zero);
    assert_eq!(meta.field("creationTimestamp").unwrap().shape, Shape::Time);
    assert!(schema[schema.find("io.k8s.api.core.v1.ObjectReference").unwrap()].atomic);
}

#[test]
fn kinds_name_types() {
    let check = |group: &str, version: &str, kind: &str, name: &str| {
        let id = object_type(group, version, kind).unwrap_or_else(|| panic!("{group}/{version}/{kind}"));
        assert_eq!(schema()[id].name, name);
    };
    check("", "v1", "Pod", "io.k8s.api.core.v1.Pod");
    check("apps", "v1", "DeploymentList", "io.k8s.api.apps.v1.DeploymentList");
    check("", "v1", "Status", "io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    check("autoscaling", "v1", "Scale", "io.k8s.api.autoscaling.v1.Scale");
    assert_eq!(object_type("", "v2", "Pod"), None);
}

#[test]
fn resources_say_where_their_objects_lie() {
    let check = |group: &str, version: &str, plural: &str, prefix: &str, stored: &str, converts: bool| {
        let resource = resource(group, version, plural).unwrap();
        let storage = resource.storage.as_ref().unwrap();
        assert_eq!(
            (&*storage.prefix, &*schema()[storage.object].name, storage.converts),
            (prefix, stored, converts),
            "{plural}"
        );
    };
    check("", "v1", "nodes", "minions", "io.k8s.api.core.v1.Node", false);
    check("", "v1", "services", "services/specs", "io.k8s.api.core.v1.Service", false);
    check("events.k8s.io", "v1", "events", "events", "io.k8s.api.core.v1.Event", true);
    check("", "v1", "events", "events", "io.k8s.api.core.v1.Event", true);
    let hpa = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler";
    check("autoscaling", "v1", "horizontalpodautoscalers", "horizontalpodautoscalers", hpa, true);
    check("networking.k8s.io", "v1", "ingresses", "ingress", "io.k8s.api.networking.v1.Ingress", false);
    let crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let prefix = "apiextensions.k8s.io/customresourcedefinitions";
    check("apiextensions.k8s.io", "v1", "customresourcedefinitions", prefix, crd, false);

    assert!(resource("", "v1", "bindings").unwrap().storage.is_none());
    let pods = resource("", "v1", "pods").unwrap();
    assert_eq!(pods.subresource("eviction").unwrap().kind.to_string(), "policy/v1, Kind=Eviction");
    assert_eq!(pods.storage.as_ref().unwrap().hash, "xPOwRZ+Yhw8=");
    assert!(pods.namespaced && pods.default_on && pods.has_verb("watch"));
    assert!(!resource("certificates.k8s.io", "v1beta1", "clustertrustbundles").unwrap().default_on);
    assert_eq!(resources().groups()[0], ("", vec!["v1"]));
    assert_eq!(resources().by_kind("apps", "v1", "Deployment").unwrap().plural, "deployments");
    assert!(resource("apps", "v1", "pods").is_none());
}
