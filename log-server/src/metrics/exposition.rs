//! The two text formats that a scraper may ask for.
//!
//! Everything is written as OpenMetrics. Prometheus' older format (0.0.4) is made out of that text: it says the same,
//! with the counters' suffix in the lines about the family, without units and without an end.

/// What ends a text in the OpenMetrics format.
pub const END: &str = "# EOF\n";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The format that an `Accept` header asks for: Prometheus' own only if it ranks above OpenMetrics or is the only
    /// one that is named; a browser or curl, which take anything, get OpenMetrics.
    pub fn accepted(accept: Option<&str>) -> Format {
        let accept = accept.unwrap_or_default();
        let quality = |wanted: &str| {
            let ranges =
                accept.split(',').filter(|range| range.split(';').next().map(str::trim) == Some(wanted));
            ranges.map(quality_of).fold(0.0, f64::max)
        };
        let open_metrics = quality("application/openmetrics-text");
        if quality("text/plain") > open_metrics { Format::Prometheus } else { Format::OpenMetrics }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// A whole text of the OpenMetrics format, in this one.
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Format::OpenMetrics => open_metrics,
            Format::Prometheus => to_prometheus(&open_metrics),
        }
    }
}

/// The weight of one range of an `Accept` header, 1 unless it says otherwise.
fn quality_of(range: &str) -> f64 {
    let parameters = range.split(';').skip(1).map(str::trim);
    let weight = parameters.filter_map(|parameter| parameter.strip_prefix("q=")).next();
    weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
}

fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, which says what becomes of the name of both.
    let mut help = None;
    for line in open_metrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text += line;
            text.push('\n');
            continue;
        };
        if let Some(of_family) = comment.strip_prefix("HELP ") {
            help = of_family.split_once(' ');
        } else if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                text += &format!("# HELP {name}{suffix} {help}\n");
            }
            text += &format!("# TYPE {name}{suffix} {kind}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_ranks_first() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            (None, Format::OpenMetrics),
            (Some("*/*"), Format::OpenMetrics),
            (Some("text/html,application/xml;q=0.9,*/*;q=0.8"), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
            (Some("text/plain"), Format::Prometheus),
            (Some("text/plain; version=0.0.4"), Format::Prometheus),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"), Format::Prometheus),
            (Some("application/openmetrics-text, text/plain"), Format::OpenMetrics),
            (Some("text/plain;q=nonsense"), Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn families_are_named_as_their_samples_in_the_older_format() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total{x=\"# y\"} 1\n# HELP b_seconds Time.\n\
                    # TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 2\n# TYPE c info\nc_info 1\n\
                    # TYPE d unknown\nd 1\n# EOF\n";
        assert_eq!(
            Format::Prometheus.of(text.to_owned()),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n# HELP b_seconds Time.\n\
             # TYPE b_seconds gauge\nb_seconds 2\n# TYPE c_info gauge\nc_info 1\n# TYPE d untyped\nd 1\n"
        );
        assert_eq!(Format::OpenMetrics.of(text.to_owned()), text);
    }
}
