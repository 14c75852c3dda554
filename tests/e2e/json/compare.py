"""The agent's transcoder against Python's protobuf JSON mapping: the same JSON to both, field by field the same.

compare.py EXAMPLES: prints the URL of its upstream, reads the agent's HTTP endpoint, and ends with what it found.
EXAMPLES is the folder of the OTLP specification's examples. SEED and ROUNDS in the environment vary the rest.
"""

import difflib
import http.client
import json
import os
import random
import sys
from pathlib import Path

import edges
import mapping
from generate import Generator
from upstream import Upstream

# What the agent puts there itself.
STAMPED = ("user.", "workspace.", "vcs.", "deployment.")


class Comparison:
    def __init__(self, upstream, endpoint):
        self.upstream = upstream
        self.agent = http.client.HTTPConnection(endpoint, timeout=30)
        self.expected = {}
        self.texts = {}
        self.refused = 0
        self.wrong = []

    def next_case(self):
        return f"case {len(self.texts)}"

    def send(self, signal, text):
        """The status, and what the agent says in its answer's JSON."""
        self.agent.request("POST", f"/v1/{signal}", text, {"Content-Type": "application/json"})
        response = self.agent.getresponse()
        return response.status, json.loads(response.read())

    def check(self, signal, case, text, expected):
        """Sends a text; `expected` is the request that it is, or None if it is none."""
        self.texts[case] = text
        status, said = self.send(signal, text)
        rejected = sum(int(value) for key, value in said.get("partialSuccess", {}).items() if "rejected" in key)
        if expected is None:
            self.refused += 1
            wanted = (400, 0)
        else:
            wanted = (200, mapping.take_out_invalid(expected))
        if (status, rejected) != wanted:
            self.wrong.append(f"{text}\n  {status} {said}, but by Python's mapping it should be {wanted}")
        elif expected is not None and mapping.items(expected):
            self.expected[case] = list(mapping.resources(expected))

    def check_text(self, signal, text):
        case = self.next_case()
        text = text.replace(b"CASE", case.encode())
        try:
            expected = mapping.read(signal, text)
        except mapping.Refused:
            expected = None
        self.check(signal, case, text, expected)

    def finish(self):
        if not self.upstream.wait(self.expected, 60):
            missing = [self.texts[case] for case in self.expected if case not in self.upstream.arrived]
            self.wrong.append(f"{len(missing)} never arrived, such as {missing[0]}")
        for case, expected in self.expected.items():
            arrived = self.upstream.arrived.get(case, [])
            expected, arrived = ([without_stamps(part) for part in parts] for parts in (expected, arrived))
            if list(map(in_bytes, arrived)) != list(map(in_bytes, expected)):
                lines = [str(parts).splitlines() for parts in (expected, arrived)]
                difference = "\n".join(difflib.unified_diff(*lines, "expected", "arrived", n=2, lineterm=""))
                self.wrong.append(f"{self.texts[case]}\n{difference}")


def without_stamps(part):
    """A resource with everything in it, less what the agent puts there itself."""
    part = type(part).FromString(part.SerializeToString())
    theirs = [attribute for attribute in part.resource.attributes if not attribute.key.startswith(STAMPED)]
    del part.resource.attributes[:]
    part.resource.attributes.extend(theirs)
    if not part.resource.ByteSize():
        part.ClearField("resource")
    return part


def in_bytes(part):
    """What can be compared: as a message, nothing with NaN in it is equal to itself."""
    return part.SerializeToString(deterministic=True)


def check_examples(comparison, folder):
    for name, signal in [("trace", "traces"), ("metrics", "metrics"), ("logs", "logs"), ("events", "logs")]:
        values = json.loads((folder / f"{name}.json").read_text())
        for part in next(iter(values.values())):
            part["schemaUrl"] = "CASE"
        comparison.check_text(signal, json.dumps(values).encode())


def check_edges(comparison):
    for signal, text in edges.edges():
        comparison.check_text(signal, text.encode())
    for signal, text, same in edges.lenient():
        case = comparison.next_case()
        expected = mapping.read(signal, same.replace("CASE", case).encode())
        comparison.check(signal, case, text.replace("CASE", case).encode(), expected)
    for texts, wanted in [(edges.BROKEN, 400), (edges.EMPTY, 200)]:
        for text in texts:
            status, said = comparison.send("traces", text)
            if status != wanted:
                comparison.wrong.append(f"{text}: {status} {said}")


def check_generated(comparison, generator, rounds):
    for number in range(rounds):
        signal = list(mapping.REQUESTS)[number % 3]
        case = comparison.next_case()
        request = generator.request(signal, case)
        text = generator.write(request)
        read = mapping.read(signal, text)
        if in_bytes(read) != in_bytes(request):
            raise AssertionError(f"the generator or the mapping is wrong: {text}")
        comparison.check(signal, case, text, request)


def check_strange(comparison, generator, rounds):
    for number in range(rounds):
        signal = list(mapping.REQUESTS)[number % 3]
        comparison.check_text(signal, generator.write_strange(generator.request(signal, "CASE")))


def main():
    upstream = Upstream()
    print(upstream.url, flush=True)
    comparison = Comparison(upstream, sys.stdin.readline().strip())
    seed, rounds = int(os.environ.get("SEED", "1")), int(os.environ.get("ROUNDS", "600"))
    check_examples(comparison, Path(sys.argv[1]))
    check_edges(comparison)
    generator = Generator(random.Random(seed))
    check_generated(comparison, generator, rounds)
    check_strange(comparison, generator, rounds)
    comparison.finish()
    for wrong in comparison.wrong[:20]:
        print(wrong, file=sys.stderr)
    print(
        f"{len(comparison.texts)} texts, {comparison.refused} of them no OTLP, seed {seed}: "
        f"{len(comparison.wrong)} differences"
    )
    sys.exit(bool(comparison.wrong))


main()
