//! What the script applies.

use serde_json::{Value, json};

/// Where most of it lives.
pub const HOME: &str = "swap";

fn meta(namespace: &str, name: &str) -> Value {
    json!({"name": name, "namespace": namespace, "labels": {"app": name}})
}

fn pod(app: &str, extra: Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "example.com/main:1", "resources": {"requests": {"cpu": "10m"}}}],
    });
    if let (Value::Object(spec), Value::Object(extra)) = (&mut spec, extra) {
        spec.extend(extra);
    }
    json!({"metadata": {"labels": {"app": app}}, "spec": spec})
}

/// A Deployment.
pub fn deployment(namespace: &str, name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(namespace, name),
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": pod(name, json!({})),
        },
    })
}

/// A Service for the pods of an app.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": meta(namespace, name),
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// A Job of one of five sorts: plain, several pods, indexed, failing, and one that is cleaned up by itself.
pub fn job(namespace: &str, number: u32) -> Value {
    let name = format!("job-{number}");
    let words = if number % 5 == 3 { json!(["false"]) } else { json!(["true"]) };
    let containers = json!([{"name": "main", "image": "example.com/main:1", "command": words}]);
    let mut spec = json!({
        "template": pod(&name, json!({"restartPolicy": "Never", "containers": containers})),
        "backoffLimit": 1,
    });
    match number % 5 {
        1 => (spec["completions"], spec["parallelism"]) = (6.into(), 3.into()),
        2 => {
            (spec["completions"], spec["parallelism"]) = (3.into(), 3.into());
            spec["completionMode"] = "Indexed".into();
        }
        4 => spec["ttlSecondsAfterFinished"] = 10.into(),
        _ => {}
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta(namespace, &name), "spec": spec})
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// What a namespace holds that is going to be deleted.
pub fn doomed(name: &str) -> Vec<Value> {
    let mut all = vec![deployment(name, "web", 5), service(name, "web"), job(name, 0), job(name, 1)];
    all.extend((0..20).map(|number| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name, &format!("config-{number}")),
            "data": {"key": "value"},
        })
    }));
    all.push(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": meta(name, "secret"), "stringData": {"key": "value"},
    }));
    all.push(claim(name, "unbound"));
    all
}

fn claim(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta(namespace, name),
        "spec": claim_spec(),
    })
}

fn claim_spec() -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
        "resources": {"requests": {"storage": "1Gi"}},
    })
}

/// What is there from the beginning: something for most of the controllers.
pub fn home() -> Vec<Value> {
    let mut all = vec![
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta(HOME, "quota"),
            "spec": {"hard": {"pods": "400", "requests.cpu": "100", "services": "20", "count/jobs.batch": "100"}},
        }),
        json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": meta(HOME, "limits"),
            "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "10m", "memory": "16Mi"}}]},
        }),
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "manual"},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        }),
        deployment(HOME, "web", 10),
        service(HOME, "web"),
        deployment(HOME, "wide", 0),
        service(HOME, "wide"),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(HOME, "web"),
            "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "web"}}},
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta(HOME, "db"),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"},
                "minReplicas": 1, "maxReplicas": 5,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
                }}],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta(HOME, "agent"),
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": pod("agent", json!({}))},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta(HOME, "db"),
            "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 5432}]},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta(HOME, "db"),
            "spec": {
                "serviceName": "db", "replicas": 3, "selector": {"matchLabels": {"app": "db"}},
                "template": pod("db", json!({})),
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim_spec()}],
            },
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(HOME, "tick"),
            "spec": {
                "schedule": "* * * * *", "successfulJobsHistoryLimit": 2, "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": {"template": pod("tick", json!({"restartPolicy": "OnFailure"}))}},
            },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "swap-all"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"swap": "part"}}]}, "rules": [],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "swap-part", "labels": {"swap": "part"}},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }),
    ];
    all.extend((0..6).map(|number| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("volume-{number}")},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": format!("/volumes/{number}")},
            },
        })
    }));
    all
}
