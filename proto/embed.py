#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a text file as a C character array: embed.py INPUT OUTPUT NAME"""
import sys


def main():
    source, output, name = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        lines = file.read().splitlines()
    with open(output, "w", encoding="utf-8") as file:
        file.write("/* Made by proto/embed.py. */\n#pragma once\n\n")
        file.write(f"static const char {name}[] =\n")
        for line in lines:
            text = line.replace("\\", "\\\\").replace('"', '\\"')
            file.write(f'    "{text}\\n"\n')
        file.write("    ;\n")


main()
