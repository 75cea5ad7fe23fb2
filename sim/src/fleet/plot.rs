//! Plots as SVG text: points of cost against kept promises, and series over time.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 44.0;
const COLORS: [&str; 6] = ["#1b6ca8", "#c0392b", "#27864b", "#8e5ea2", "#b9770e", "#555555"];

/// A named point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub name: String,
    pub x: f64,
    pub y: f64,
    /// Drawn larger and in the first color.
    pub ours: bool,
}

/// What the axes say.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

/// Points, with the ones at `goal` or above on the good side of a line.
pub fn scatter(labels: &Labels<'_>, points: &[Point], goal: f64) -> String {
    let xs = points.iter().map(|point| point.x);
    let (low, high) = (xs.clone().fold(f64::MAX, f64::min) * 0.9, xs.fold(0.0, f64::max) * 1.05);
    let least = points.iter().map(|point| point.y).fold(goal, f64::min);
    let frame = Frame { x: (low, high), y: (least.max(0.85), 1.0) };
    let mut svg = frame.open(labels);
    let line = frame.y_at(goal);
    let _ = writeln!(
        svg,
        r##"<line x1="{LEFT}" y1="{line:.1}" x2="{:.1}" y2="{line:.1}" stroke="#27864b" stroke-dasharray="4 3"/>"##,
        WIDTH - RIGHT
    );
    for point in points {
        let (x, y) = (frame.x_at(point.x), frame.y_at(point.y.max(frame.y.0)));
        let (radius, color) = if point.ours { (6.0, COLORS[0]) } else { (3.5, COLORS[1]) };
        let name = escape(&point.name);
        let _ = writeln!(
            svg,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{color}"><title>{name}</title></circle>"#
        );
        if point.ours {
            let _ = writeln!(svg, r#"<text x="{:.1}" y="{:.1}">{name}</text>"#, x + 8.0, y + 4.0);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Series of (x, y) with names, as lines.
pub fn lines(labels: &Labels<'_>, series: &[(&str, Vec<(f64, f64)>)]) -> String {
    let all = || series.iter().flat_map(|(_, points)| points);
    let x = (all().map(|p| p.0).fold(f64::MAX, f64::min), all().map(|p| p.0).fold(0.0, f64::max));
    let frame = Frame { x, y: (0.0, all().map(|p| p.1).fold(1.0, f64::max) * 1.05) };
    let mut svg = frame.open(labels);
    for (index, (name, points)) in series.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", frame.x_at(*x), frame.y_at(*y)))
            .collect();
        let _ = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{color}" stroke-width="1.2" points="{}"/>"#,
            path.join(" ")
        );
        let at = LEFT + 12.0 + 150.0 * crate::fleet::job::count(index);
        let _ = writeln!(
            svg,
            r#"<text x="{at:.0}" y="{:.0}" fill="{color}">{}</text>"#,
            TOP + 14.0,
            escape(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Pictures one below the other, as one.
pub fn stack(pictures: &[String]) -> String {
    const OPENING: &str = "<svg ";
    let height = HEIGHT * crate::fleet::job::count(pictures.len());
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">"#
    );
    svg.push('\n');
    for (index, picture) in pictures.iter().enumerate() {
        let y = HEIGHT * crate::fleet::job::count(index);
        let body = picture.strip_prefix(OPENING).unwrap_or(picture);
        let _ = write!(svg, r#"{OPENING}y="{y}" width="{WIDTH}" height="{HEIGHT}" {body}"#);
    }
    svg.push_str("</svg>\n");
    svg
}

struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn x_at(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0).max(1e-9) * (WIDTH - LEFT - RIGHT)
    }

    fn y_at(&self, y: f64) -> f64 {
        let share = (y - self.y.0) / (self.y.1 - self.y.0).max(1e-9);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn open(&self, labels: &Labels<'_>) -> String {
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="16" font-size="13">{}</text>
<text x="{LEFT}" y="{:.0}">{}</text>
<text transform="translate(14 {:.0}) rotate(-90)">{}</text>
"##,
            escape(labels.title),
            HEIGHT - 8.0,
            escape(labels.x),
            HEIGHT - BOTTOM,
            escape(labels.y)
        );
        for tick in 0..=4 {
            let share = f64::from(tick) / 4.0;
            let (x, y) = (
                self.x.0 + share * (self.x.1 - self.x.0),
                self.y.0 + share * (self.y.1 - self.y.0),
            );
            let (px, py) = (self.x_at(x), self.y_at(y));
            let _ = writeln!(
                svg,
                r##"<line x1="{LEFT}" y1="{py:.1}" x2="{:.1}" y2="{py:.1}" stroke="#dddddd"/><text x="{:.0}" y="{:.1}" text-anchor="end">{}</text><text x="{px:.1}" y="{:.0}" text-anchor="middle">{}</text>"##,
                WIDTH - RIGHT,
                LEFT - 6.0,
                py + 4.0,
                short(y),
                HEIGHT - BOTTOM + 16.0,
                short(x)
            );
        }
        svg
    }
}

fn short(x: f64) -> String {
    if x.abs() >= 100.0 { format!("{x:.0}") } else { format!("{x:.3}") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_picture() {
        let labels = Labels { title: "a < b", x: "x", y: "y" };
        let point = Point { name: "<&>".to_owned(), x: 1.0, y: 0.99, ours: true };
        let svg = scatter(&labels, &[point], 0.99);
        assert!(svg.contains("a &lt; b") && svg.contains("&lt;&amp;&gt;"), "{svg}");
        assert!(!svg.contains("NaN"));
        assert!(lines(&labels, &[("none", vec![])]).ends_with("</svg>\n"));
        let both = stack(&[svg, lines(&labels, &[("none", vec![])])]);
        assert_eq!((both.matches("<svg ").count(), both.matches("</svg>").count()), (3, 3));
    }
}
