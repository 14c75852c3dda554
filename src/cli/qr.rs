//! An address as a picture in the terminal, for a telephone's camera.

use qrcode::{Color, EcLevel, QrCode};

/// Light around the picture, in modules: cameras want four, and two do.
const QUIET: usize = 2;

/// Two rows of modules in each line of text, light on dark as terminals are; none if it is too wide for `columns`.
pub(super) fn picture(text: &str, columns: usize) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (modules, width) = (code.to_colors(), code.width());
    let side = width + 2 * QUIET;
    if side > columns {
        return None;
    }
    let is_light = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => modules[y * width + x] == Color::Light,
            _ => true,
        }
    };
    let mut picture = String::with_capacity(side * side);
    for y in (0..side).step_by(2) {
        for x in 0..side {
            // Below the last row there is nothing, which is dark.
            picture.push(match (is_light(x, y), y + 1 < side && is_light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        picture.push('\n');
    }
    Some(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_square_with_a_light_edge() {
        let text = picture("https://id.example/device?user_code=WDJB-MJHT", 80).expect("it fits");
        let lines: Vec<&str> = text.lines().collect();
        let side = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == side));
        assert_eq!(lines.len(), side.div_ceil(2));
        assert!(lines[0].chars().all(|c| c == '█'), "the edge");
        assert!(lines.iter().all(|line| line.starts_with('█') || line.starts_with('▀')));
    }

    #[test]
    fn a_picture_that_does_not_fit_is_none() {
        assert_eq!(picture("https://id.example/device", 20), None);
    }
}
