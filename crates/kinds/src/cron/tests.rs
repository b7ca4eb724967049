use jiff::Timestamp;

use super::*;

/// `parser_test.go`, `spec_test.go` (`TestErrors`) of robfig/cron, and upstream's
/// `TestParseCronScheduleWithPanicRecovery`
#[test]
fn texts() {
    let check = |text: &str, expect: &str| {
        let got = parse(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(got, expect, "{text}");
    };
    for good in [
        "0 0 * * *",
        "* * * * *",
        "*/15 * * * *",
        "5/15 * * * *",
        "5-30/5 * * * *",
        "? ? ? ? ?",
        "0 0 1,15 jan-MAR mon",
        "0 0 * * 6",
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
        "@every 5m",
        "TZ=UTC 0 0 * * *",
        "CRON_TZ=America/New_York @daily",
        ", * * * *",
        " 1  2 3 4 5 ",
    ] {
        check(good, "");
    }
    check("", "empty spec string");
    check("* * * *", "expected exactly 5 fields, found 4: [* * * *]");
    check("@unrecognized", "unrecognized descriptor: @unrecognized");
    check("@every 5x", "failed to parse duration @every 5x: time: unknown unit \"x\" in duration \"5x\"");
    check("60 * * * *", "end of range (60) above maximum (59): 60");
    check("* 24 * * *", "end of range (24) above maximum (23): 24");
    check("* * 0 * *", "beginning of range (0) below minimum (1): 0");
    check("* * * 13 *", "end of range (13) above maximum (12): 13");
    check("* * * * 7", "end of range (7) above maximum (6): 7");
    check("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3");
    check("1-2-3 * * * *", "too many hyphens: 1-2-3");
    check("1/2/3 * * * *", "too many slashes: 1/2/3");
    check("*/0 * * * *", "step of range should be a positive number: */0");
    check("*/-5 * * * *", "negative number (-5) not allowed: -5");
    check("jan * * * *", "failed to parse int from jan: strconv.Atoi: parsing \"jan\": invalid syntax");
    check("TZ=0", "invalid schedule format: runtime error: slice bounds out of range [:-1]");
    check("TZ=Nowhere 0 0 * * *", "provided bad location Nowhere: unknown time zone Nowhere");
}

/// `TestNext` of robfig/cron
#[test]
fn next() {
    let check = |after: &str, schedule: &str, zone: &str, expect: &str| {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let zone = time_zone(zone).unwrap();
        let got = parse(schedule).unwrap().next(at(after), &zone);
        assert_eq!(got, (!expect.is_empty()).then(|| at(expect)), "{schedule} after {after}");
    };
    let utc = |after: &str, schedule: &str, expect: &str| check(after, schedule, "UTC", expect);
    utc("2012-07-09T14:45:00Z", "0/15 * * * *", "2012-07-09T15:00:00Z");
    utc("2012-07-09T14:59:59Z", "0/15 * * * *", "2012-07-09T15:00:00Z");
    utc("2012-07-09T15:45:00Z", "20-35/15 * * * *", "2012-07-09T16:20:00Z");
    utc("2012-07-09T23:46:00Z", "*/15 * * * *", "2012-07-10T00:00:00Z");
    utc("2012-07-09T23:35:51Z", "20-35/15 1-23/2 * * *", "2012-07-10T01:20:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 9 apr-oct ?", "2012-08-09T00:00:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 */5 apr,aug,oct mon", "2012-08-01T00:00:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 */5 oct mon", "2012-10-01T00:00:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 * feb mon", "2013-02-04T00:00:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 * feb mon/2", "2013-02-01T00:00:00Z");
    utc("2012-12-31T23:59:45Z", "* * * * *", "2013-01-01T00:00:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 29 2 ?", "2016-02-29T00:00:00Z");
    utc("2012-07-09T23:35:00Z", "0 0 30 2 ?", "");
    utc("2012-07-09T14:45:00.5Z", "@every 90s", "2012-07-09T14:46:30Z");
    utc("2012-07-09T14:45:00.5Z", "* * * * *", "2012-07-09T14:46:00Z");
    utc("2012-07-09T14:45:00Z", "TZ=America/New_York 0 12 * * *", "2012-07-09T16:00:00Z");
    // Clocks go forward on the 11th of March and back on the 4th of November.
    let york = |after: &str, schedule: &str, expect: &str| check(after, schedule, "America/New_York", expect);
    york("2012-03-11T05:00:00Z", "30 2 11 3 ?", "2013-03-11T06:30:00Z");
    york("2012-03-11T05:00:00Z", "0 * * * ?", "2012-03-11T06:00:00Z");
    york("2012-03-11T06:00:00Z", "0 * * * ?", "2012-03-11T07:00:00Z");
    york("2012-03-11T05:00:00Z", "0 3 * * ?", "2012-03-11T07:00:00Z");
    york("2012-11-04T04:00:00Z", "30 2 4 11 ?", "2012-11-04T07:30:00Z");
    york("2012-11-04T05:45:00Z", "30 1 4 11 ?", "2012-11-04T06:30:00Z");
    // There, at midnight.
    utc("2018-10-17T09:00:00Z", "TZ=America/Sao_Paulo 0 9 10 * ?", "2018-11-10T11:00:00Z");
    utc("2018-02-14T10:00:00Z", "TZ=America/Sao_Paulo 0 9 22 * ?", "2018-02-22T12:00:00Z");
}
