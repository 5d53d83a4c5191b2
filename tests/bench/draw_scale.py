#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws efficiency against cores, one SVG for each family: docs/images/scale-*.svg.

  draw_scale.py        into docs/images
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = HERE.parents[1] / "docs" / "images"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 300, 48, 34, 220, 40
COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#777777")
BAR = 0.7


def file_name(family):
    return "scale-" + "".join(letter for letter in family.lower() if letter.isalnum()) + ".svg"


def place(cores, share, most):
    """Of a point: cores by their logarithm, efficiency from 0 to 1."""
    steps = most.bit_length() - 1
    across = LEFT + (WIDTH - LEFT - RIGHT) * (cores.bit_length() - 1) / steps
    return across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(share, 1))


def line(x1, y1, x2, y2, colour="#dddddd", extra=""):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
            f"{extra}/>")


def text(x, y, words, anchor="middle", colour="#333333"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>')


def picture(family, ways):
    cores = sorted({count for runs in ways.values() for count in runs})
    most = cores[-1]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="11" role="img">',
             f"<title>{family}: efficiency against cores</title>",
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
             text(LEFT, 18, f"{family}: efficiency against cores", "start")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(1, share, most)
        parts += [line(x, y, WIDTH - RIGHT, y), text(x - 6, y + 4, f"{share:.0%}", "end")]
    x, y = place(1, BAR, most)
    parts.append(line(x, y, WIDTH - RIGHT, y, "#333333", ' stroke-dasharray="4 3"'))
    parts += [text(place(count, 0, most)[0], HEIGHT - BOTTOM + 16, count) for count in cores]
    for index, (way, runs) in enumerate(ways.items()):
        points = " ".join("{:.1f},{:.1f}".format(*place(count, run[1], most))
                          for count, run in sorted(runs.items()))
        colour = COLOURS[index % len(COLOURS)]
        y = TOP + 14 + 18 * index
        parts += [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
                  line(WIDTH - RIGHT + 12, y - 4, WIDTH - RIGHT + 30, y - 4, colour,
                       ' stroke-width="3"'),
                  text(WIDTH - RIGHT + 36, y, way, "start")]
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw(found, directory):
    """Of bench_cluster.efficiencies."""
    for family, ways in found.items():
        (directory / file_name(family)).write_text(picture(family, ways))


def main():
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "family")]
    import bench_cluster
    import cluster_costs
    draw(bench_cluster.efficiencies(cluster_costs.Costs()), IMAGES)


if __name__ == "__main__":
    main()
