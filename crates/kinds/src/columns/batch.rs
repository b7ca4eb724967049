//! `batch`

use serde_json::Value;

use super::cell::{
    condition, count, created, given_or, human_duration, is_true, name, number, since, text, time, workload,
};
use super::{AGE, CONTAINERS, Column, Columns, IMAGES, Kinds, NAME, SELECTOR};

pub(super) static KINDS: Kinds = &[
    (
        "Job",
        Columns::new(
            &[
                NAME,
                Column::text("Status", "Status of the job."),
                Column::text("Completions", "Pods that succeeded, of those that must."),
                Column::text("Duration", "Time required to complete the job."),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            |o, now| {
                let status = &o["status"];
                let end = time(&status["completionTime"]).unwrap_or(now);
                let duration = time(&status["startTime"])
                    .map_or_else(String::new, |start| human_duration(end.duration_since(start).as_secs()));
                let mut cells = vec![
                    name(o),
                    job_status(o).into(),
                    completions(o).into(),
                    duration.into(),
                    created(o, now),
                ];
                cells.extend(workload(&o["spec"]));
                cells
            },
        ),
    ),
    (
        "CronJob",
        Columns::new(
            &[
                NAME,
                Column::text("Schedule", "When jobs are started, in cron's notation."),
                Column::text("Timezone", "Time zone of the schedule."),
                Column::flag("Suspend", "Whether no new jobs are started."),
                Column::number("Active", "Jobs that are running."),
                Column::text("Last Schedule", "Time since a job was last started."),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            |o, now| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let suspend = match spec["suspend"].as_bool() {
                    Some(true) => "True",
                    Some(false) => "False",
                    None => "<unset>",
                };
                let last = match &status["lastScheduleTime"] {
                    Value::Null => "<none>".to_string(),
                    last => since(last, now),
                };
                let mut cells = vec![
                    name(o),
                    text(&spec["schedule"]),
                    given_or(&spec["timeZone"], "<none>"),
                    suspend.into(),
                    count(&status["active"]).into(),
                    last.into(),
                    created(o, now),
                ];
                cells.extend(workload(&spec["jobTemplate"]["spec"]));
                cells
            },
        ),
    ),
];

fn completions(o: &Value) -> String {
    let succeeded = number(&o["status"]["succeeded"]);
    match (o["spec"]["completions"].as_i64(), number(&o["spec"]["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_status(o: &Value) -> &'static str {
    let has = |kind| is_true(condition(o, kind));
    let deleted = !o["metadata"]["deletionTimestamp"].is_null();
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if deleted => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}
