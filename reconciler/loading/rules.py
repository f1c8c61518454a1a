"""Every rule that a Problem can name: what it says, why it stands, how to mend it, and one example of each.

    reconciler explain duration      ->   the entry below, as a page
    RULES["duration"].layer          ->   what a report groups by

An id, once published, keeps its meaning: suppressions, dashboards and code hosts refer to it. The tests load every
`wrong` and `right`: the first gives this rule, the second gives no problem at all.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from reconciler.loading.problem import Severity


class Layer(StrEnum):
    """How far a manifest came before the rule was looked at."""

    FILE = "file"
    TEMPLATE = "template"
    SYNTAX = "syntax"
    SCHEMA = "schema"
    SEMANTICS = "semantics"
    LINT = "lint"
    """Valid, but hardly what was meant: these are warnings."""


class Rule(NamedTuple):
    """One rule. Examples are lines of a Pool's spec, or a whole file when they begin with a top-level word."""

    id: str
    layer: Layer
    what: str
    why: str
    mend: str
    wrong: str = ""
    """Empty where the fault is not in the text: a file that cannot be read."""
    right: str = ""

    @property
    def severity(self) -> Severity:
        """What it usually is; the problem itself has the last word."""
        return "warning" if self.layer is Layer.LINT or self.id == "unused-value" else "error"

    @property
    def can_be_ignored(self) -> bool:
        """Lint can be silenced; an error is what the daemon refuses, and no comment changes that."""
        return self.layer is Layer.LINT


_FILE = (
    Rule(
        "source", Layer.FILE, "the path cannot be looked at",
        "A source that cannot be read is not an empty one: everything that came from it stays as it is.",
        "Give a directory with manifests, or one manifest.",
    ),
    Rule(
        "unreadable", Layer.FILE, "a file or directory cannot be read",
        "What it says is unknown, so the whole source keeps its last good state.",
        "Give the daemon's user the right to read it, or move it out of the source.",
    ),
    Rule(
        "not-a-file", Layer.FILE, "something with a manifest's name is no regular file",
        "Reading a FIFO or a device may wait for ever, or do something.",
        "Remove it, or give it another suffix than .yaml and .yml.",
    ),
    Rule(
        "symlink", Layer.FILE, "a link is broken, leaves the source, or leads to a directory",
        "What lies outside can change without review. A link to a directory is a warning: it is not followed.",
        "Copy the file into the source, or mend the link.",
    ),
    Rule(
        "limit", Layer.FILE, "the file is larger, deeper or more entangled than is read",
        "A megabyte of text can stand for a terabyte of aliases. A file has at most 1 MiB, 64 levels, 200,000 values and"
        " 1,000 documents; aliases stand for at most 10,000 values; a number has at most 100 digits.",
        "Split the file.",
        wrong="replicas: 1" + 100 * "0",
        right="replicas: 10",
    ),
    Rule(
        "encoding", Layer.FILE, "the bytes are not clean UTF-8",
        "Manifests are UTF-8 without control characters, so that everybody reads the same text.",
        "Save the file as UTF-8, and remove the character that is pointed at.",
        wrong="apiVersion: \x00",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
    ),
)  # fmt: skip

_TEMPLATE = (
    Rule(
        "template", Layer.TEMPLATE, "a template or an expression is wrong, or gives what cannot stand there",
        "${{ ... }} and *.yaml.j2 are worked out before anything is checked, in a child that reaches nothing else. Text"
        " that would change the YAML around it is refused, so that a value never becomes a field.",
        "Mend the expression; in *.yaml.j2 write {{ ... | tojson }} for a value that is more than a plain word.",
        wrong="replicas: ${{ 1 + }}",
        right="replicas: ${{ 1 + 1 }}",
    ),
    Rule(
        "undefined-value", Layer.TEMPLATE, "an expression names a value that is not there",
        "An empty text instead would be found out much later, and elsewhere.",
        "Give it in values.yaml, --values FILE or --set NAME=VALUE, or write ${{ NAME | default(...) }}.",
        wrong="replicas: ${{ replicas }}",
        right="replicas: ${{ replicas | default(2) }}",
    ),
    Rule(
        "template-limit", Layer.TEMPLATE, "a template takes too much time or memory, or makes too much",
        "A template is a program. It has 2 s of processor time, 30 s in all, 256 MiB, and makes at most 1 MiB.",
        "Make it smaller, or split it.",
        wrong="replicas: ${{ ('x' * 2 ** 28) | length }}",
        right="replicas: ${{ ('x' * 2) | length }}",
    ),
    Rule(
        "overlay", Layer.FILE, "an overlay changes something that is not there",
        "Otherwise nobody would notice the misspelt name of what should have been changed.",
        "Name a kind and a metadata.name that the manifests beside overlays/ have.",
    ),
    Rule(
        "unused-value", Layer.FILE, "a value that was given with --set is used by no manifest",
        "It changes nothing: most often its name is misspelt.",
        "Write the name as the manifests' expressions have it, or leave the option out.",
    ),
    Rule(
        "values", Layer.FILE, "a file of values is not a map of names",
        "The names are what expressions use: letters, digits and _.",
        "Write one map; objects belong into a file of another name than values.yaml.",
    ),
)  # fmt: skip

_SYNTAX = (
    Rule(
        "syntax", Layer.SYNTAX, "not YAML",
        "The text cannot be read from this place on; what stands before it was still looked at.",
        "Most often: a tab, a missing quote or bracket, or ': ' inside a value without quotes.",
        wrong="template: {command: [sleep, inf]",
        right="template: {command: [sleep, inf]}",
    ),
    Rule(
        "alias", Layer.SYNTAX, "an alias refers to nothing, or to what it stands in",
        "*name repeats what &name has marked earlier in the same document.",
        "Mark the value with &name before it is used.",
        wrong="template: *common",
        right="template: {command: &run [sleep, inf], stop: {signal: SIGTERM}}",
    ),
    Rule(
        "key", Layer.SYNTAX, "a key is not a string",
        "Fields have names. In YAML 1.2 the unquoted 1 is a number and [a] a list.",
        "Put the key in quotes.",
        wrong="1: a",
        right="replicas: 1",
    ),
    Rule(
        "merge-key", Layer.SYNTAX, "a merge key (<<)",
        "It is not part of YAML 1.2, and which value wins differs between readers.",
        "Write the fields out, or let an overlay add them.",
        wrong="<<: {replicas: 3}",
        right="replicas: 3",
    ),
    Rule(
        "duplicate-key", Layer.SYNTAX, "one key twice in one map",
        "Most readers silently take the last one; here nothing is dropped in silence.",
        "Remove one of them.",
        wrong="replicas: 2\nreplicas: 3",
        right="replicas: 3",
    ),
    Rule(
        "tag", Layer.SYNTAX, "a tag (!name) that manifests do not have",
        "Tags make objects of other programs. Manifests hold plain values only.",
        "Leave it out.",
        wrong="replicas: !!python/int 3",
        right="replicas: 3",
    ),
)  # fmt: skip

_SCHEMA = (
    Rule(
        "type", Layer.SCHEMA, "a value of the wrong type",
        'Nothing is coerced: "3" is a word and 3 a number; no, on and 12:30 are words (YAML 1.2), 010 is ten.',
        "Write the type that is asked for; quotes make a string of anything.",
        wrong='replicas: "3"',
        right="replicas: 3",
    ),
    Rule(
        "missing-field", Layer.SCHEMA, "a field that must be there is not",
        "There is no sensible default for it.",
        "Add it; `reconciler explain` with the path of the object around it shows its fields.",
        wrong="template: {command: [sleep, inf], env: [{name: LEVEL}]}",
        right="template: {command: [sleep, inf], env: [{name: LEVEL, value: info}]}",
    ),
    Rule(
        "unknown-field", Layer.SCHEMA, "a field that does not exist here",
        "A misspelt field that is silently skipped is a setting that is silently not in force.",
        "Take the name that is offered, or look with `reconciler explain` where it belongs.",
        wrong="replcas: 3",
        right="replicas: 3",
    ),
    Rule(
        "unknown-kind", Layer.SCHEMA, "a kind that does not exist, or that nobody writes by hand",
        "Workers, tasks and revisions are made from what you declare.",
        "Take one of the kinds that are named; `reconciler explain` lists them.",
        wrong="apiVersion: reconciler/v1\nkind: Pol\nmetadata: {name: web}\nspec: {}",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
    ),
    Rule(
        "api-version", Layer.SCHEMA, "another apiVersion than reconciler/v1",
        "It says how the rest is to be read, and this program reads reconciler/v1.",
        "Write apiVersion: reconciler/v1.",
        wrong="apiVersion: apps/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
    ),
    Rule(
        "status", Layer.SCHEMA, "a status in a manifest",
        "spec is what you want and status what is so: only the daemon knows the second.",
        "Remove it.",
        wrong="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}\nstatus: {}",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
    ),
    Rule(
        "range", Layer.SCHEMA, "a number beyond its bounds, or two that contradict each other",
        "The bounds keep a slip of the finger from starting a billion processes.",
        "Stay within what is named; `reconciler explain FIELD` shows the bounds.",
        wrong="replicas: 1000000000",
        right="replicas: 10000",
    ),
    Rule(
        "value", Layer.SCHEMA, "a value that is not one of the possible ones",
        "Words have one spelling, CamelCase: what is nearly right is not guessed.",
        "Take one of those that are named.",
        wrong="restart: {policy: always}",
        right="restart: {policy: Always}",
    ),
    Rule(
        "name", Layer.SCHEMA, "a name that is no DNS label",
        "Names become parts of file names, host names and variables, so they are a-z, 0-9 and -, at most 63, with a letter"
        " or digit at both ends. A pool's is shorter by what its workers' ordinals take.",
        "Rename it.",
        wrong="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: Web_1}\nspec: {tasks: {}}",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web-1}\nspec: {tasks: {}}",
    ),
    Rule(
        "duration", Layer.SCHEMA, "a duration without its unit, or not a duration",
        "A bare 30 is seconds to one reader and milliseconds to the next.",
        "Write it as 500ms, 10s, 5m, 1h30m or 7d (d is 24 hours).",
        wrong="template: {command: [sleep, inf], stop: {gracePeriod: 30}}",
        right="template: {command: [sleep, inf], stop: {gracePeriod: 30s}}",
    ),
    Rule(
        "size", Layer.SCHEMA, "a size without its unit, or not a size",
        "A bare 10 is bytes to one reader and megabytes to the next.",
        "Write it as 64Ki, 10Mi or 1Gi (powers of 1024), or with k, M, G (powers of 1000).",
        wrong="template: {command: [sleep, inf], logs: {maxSize: 10}}",
        right="template: {command: [sleep, inf], logs: {maxSize: 10Mi}}",
    ),
    Rule(
        "cpu", Layer.SCHEMA, "not a share of the CPU",
        "It is counted in cores: a percentage would be of one core to some and of the machine to others.",
        "Write 500m (thousandths of a core), 0.5 or 2.",
        wrong="template: {command: [serve], resources: {limits: {cpu: 50%}}}",
        right="template: {command: [serve], resources: {limits: {cpu: 500m}}}",
    ),
    Rule(
        "umask", Layer.SCHEMA, "not three octal digits in quotes",
        "Without quotes YAML reads 027 as the number twenty-seven, which is another mask.",
        'Write it as "027".',
        wrong="template: {command: [serve], umask: 027}",
        right='template: {command: [serve], umask: "027"}',
    ),
)  # fmt: skip

_SEMANTICS = (
    Rule(
        "command", Layer.SEMANTICS, "nothing to run, or a command where none belongs",
        "A pool of workers runs its template's command. With tasks in mode PerTask each task brings its own.",
        "Add command, or tasks: {}; or remove one of them.",
        wrong="template: {}",
        right="template: {command: [sleep, inf]}",
    ),
    Rule(
        "warm", Layer.SEMANTICS, "a field of warm workers where there are none",
        "assignment, depth and recycle are about processes that take task after task: tasks: {mode: Warm}.",
        "Write mode: Warm with the command of the workers, or remove the field.",
        wrong="template: {command: [score], recycle: {maxTasks: 10}}",
        right="template: {command: [score], recycle: {maxTasks: 10}}\ntasks: {mode: Warm}",
    ),
    Rule(
        "working-dir", Layer.SEMANTICS, "a relative path without a directory to begin at",
        "Processes start in / unless workingDir says otherwise, never in the directory that the daemon was started in.",
        "Add an absolute workingDir, or write the whole path.",
        wrong="template: {command: [bin/serve]}",
        right="template: {command: [bin/serve], workingDir: /srv/shop}",
    ),
    Rule(
        "nul", Layer.SEMANTICS, "a NUL character in what a process is given",
        "Arguments, variables and paths end at the first NUL for the kernel.",
        r"Remove \0.",
        wrong=r'template: {command: [echo, "a\0b"]}',
        right="template: {command: [echo, ab]}",
    ),
    Rule(
        "argument-too-long", Layer.SEMANTICS, "more than the kernel hands to a process",
        "Linux takes 131,071 bytes in one argument or variable, and 2 MiB of all of them.",
        "Put it into a file and give the file's path.",
        wrong=f"template: {{command: [echo, {'x' * 131_072}]}}",
        right="template: {command: [cat, /srv/shop/long.txt]}",
    ),
    Rule(
        "variable", Layer.SEMANTICS, "$(NAME) of a variable that will not be there",
        "$(NAME) is a variable of the process's own environment: one that is declared before in env, or one of ours such"
        " as PORT and RECONCILER_ORDINAL.",
        "Declare it before it is used, or write $$(NAME) for the text itself.",
        wrong='template: {command: [serve, "$(PROT)"], ports: [{name: http, base: 8000}]}',
        right='template: {command: [serve, "$(PORT)"], ports: [{name: http, base: 8000}]}',
    ),
    Rule(
        "duplicate-name", Layer.SEMANTICS, "one name twice in one list",
        "Items of a list are known by their names: overlays merge by them, variables are made of them.",
        "Rename or remove one of them.",
        wrong="template: {command: [env], env: [{name: A, value: x}, {name: A, value: y}]}",
        right="template: {command: [env], env: [{name: A, value: x}, {name: B, value: y}]}",
    ),
    Rule(
        "secret", Layer.SEMANTICS, "a secret in a command line or in the name of a file",
        "Command lines and names can be read by every user of the machine, and end up in logs; an environment cannot.",
        "Let the program read the variable itself.",
        wrong="template: {command: [serve, $(KEY)], env: [{name: KEY, valueFrom: {file: /etc/key}}]}",
        right="template: {command: [serve], env: [{name: KEY, valueFrom: {file: /etc/key}}]}",
    ),
    Rule(
        "reserved", Layer.SEMANTICS, "a variable that the reconciler sets itself",
        "RECONCILER_... tells a process who it is; what is passed on (LISTEN_FDS) must be the truth.",
        "Choose another name.",
        wrong='template: {command: [env], env: [{name: RECONCILER_ORDINAL, value: "7"}]}',
        right='template: {command: [env], env: [{name: SHARD, value: "7"}]}',
    ),
    Rule(
        "union", Layer.SEMANTICS, "not exactly one of several fields, of which one is chosen",
        "Two answers to one question cannot both hold, and none decides nothing.",
        "Keep exactly one of them.",
        wrong="template: {command: [serve]}\nrestart: {rules: [{action: Fail}]}",
        right="template: {command: [serve]}\nrestart: {rules: [{exitCodes: {in: [78]}, action: Fail}]}",
    ),
    Rule(
        "cycle", Layer.SEMANTICS, "objects that depend on each other in a circle",
        "Each would wait for the other to be there first, so none of them would ever be started.",
        "Remove one of the dependencies on the way that is printed.",
        wrong="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}, dependsOn: [{name: web}]}",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
    ),
    Rule(
        "probe", Layer.SEMANTICS, "a probe that cannot work as it is written",
        "Only one try is made at a time, so a timeout longer than the period would shift all later ones.",
        "Raise period or lower timeout; ask workers only, and for what the way of asking can tell.",
        wrong="template: {command: [serve], probes: {liveness: {tcpSocket: {port: 80}, period: 1s, timeout: 2s}}}",
        right="template: {command: [serve], probes: {liveness: {tcpSocket: {port: 80}, period: 2s, timeout: 1s}}}",
    ),
    Rule(
        "pre-stop", Layer.SEMANTICS, "a preStop that could never run",
        "It is run before a worker's stop signal, within its gracePeriod.",
        "Give it time with gracePeriod, and use it for workers only.",
        wrong="template: {command: [serve], stop: {gracePeriod: 0s, preStop: {exec: {command: [drain]}}}}",
        right="template: {command: [serve], stop: {gracePeriod: 30s, preStop: {exec: {command: [drain]}}}}",
    ),
    Rule(
        "reference", Layer.SEMANTICS, "the object that is named is nowhere declared",
        "A pool whose restart rules are missing would follow rules that nobody has read.",
        "Declare the object beside it, or mend the name.",
        wrong="template: {command: [serve]}\nrestart: {ref: steady}",
        right="template: {command: [serve]}\nrestart: {policy: OnFailure}",
    ),
    Rule(
        "port-clash", Layer.SEMANTICS, "one port for two processes",
        "The second one to listen fails, most often at night: a base counts up with the ordinal, so pools can run into"
        " each other, or beyond 65535.",
        "Choose other ports, write base instead of port, or hold the port with sockets.",
        wrong="replicas: 3\ntemplate: {command: [serve], ports: [{name: http, port: 8000}]}",
        right="replicas: 3\ntemplate: {command: [serve], ports: [{name: http, base: 8000}]}",
    ),
    Rule(
        "socket", Layer.SEMANTICS, "an address that cannot be listened on, or is held twice",
        "The launcher binds it before any worker starts; no name server is asked.",
        "Write 127.0.0.1:8080, [::1]:8080 or /run/web.sock, each once.",
        wrong='template: {command: [serve], sockets: [{name: web, listen: "8080"}]}',
        right='template: {command: [serve], sockets: [{name: web, listen: "127.0.0.1:8080"}]}',
    ),
    Rule(
        "sandbox", Layer.SEMANTICS, "a writable path that is not absolute",
        "Everything else is read-only for the process, so there must be no doubt what it is relative to.",
        "Begin it with /.",
        wrong="template: {command: [serve], sandbox: {readWritePaths: [tmp]}}",
        right="template: {command: [serve], sandbox: {readWritePaths: [/srv/tmp]}}",
    ),
    Rule(
        "cleanup", Layer.SEMANTICS, "something to remove that is not one file or socket",
        "What is removed without being asked must be named exactly: no patterns, no directories, no relative paths.",
        "Name each file by its absolute path.",
        wrong='template: {command: [serve], cleanup: {files: ["/run/web/*.sock"]}}',
        right="template: {command: [serve], cleanup: {files: [/run/web/web.sock]}}",
    ),
    Rule(
        "duplicate-object", Layer.SEMANTICS, "two objects of one kind and name",
        "Identity is kind and name, never the file: which of the two is meant cannot be known.",
        "Rename or remove one of them.",
        wrong="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}\n---\n"
        "apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}\n---\n"
        "apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web-2}\nspec: {tasks: {}}",
    ),
)  # fmt: skip

_LINT = (
    Rule(
        "empty", Layer.LINT, "a file without objects",
        "It may be what is left of a merge, or a file that was never finished.",
        "Remove it, or add an object.",
        wrong="# nothing yet",
        right="apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {tasks: {}}",
    ),
    Rule(
        "ignore", Layer.LINT, "a comment `# reconciler: ignore[RULE]` that ignores nothing",
        "A comment that has outlived its reason will one day hide something else. Errors cannot be ignored at all.",
        "Remove it, or name the rule that the line is warned of.",
        wrong="replicas: 2  # reconciler: ignore[ephemeral-port]",
        right="template: {command: [serve], ports: [{name: a, base: 40000}]}  # reconciler: ignore[ephemeral-port]",
    ),
    Rule(
        "hidden-character", Layer.LINT, "a character that nobody sees",
        "Zero-width and direction marks make text look like something it is not.",
        "Remove it; where it is meant, write it as an escape in double quotes.",
        wrong="template: {command: [echo, a\u200bb]}",
        right='template: {command: [echo, "a\\u200bb"]}',
    ),
    Rule(
        "command-line", Layer.LINT, "a program's name with spaces in it",
        "command is a list of words, the program first. No shell takes a line apart.",
        "Make each word an item of its own.",
        wrong="template: {command: [gunicorn --workers 4]}",
        right='template: {command: [gunicorn, --workers, "4"]}',
    ),
    Rule(
        "shell-word", Layer.LINT, "a word that only a shell understands",
        "Pipes, redirections, $NAME and ~ reach the program as they stand.",
        'Write $(NAME) for a variable, or run a shell: [sh, -c, "a | b"].',
        wrong='template: {command: [serve, --home, "$HOME"]}',
        right='template: {command: [serve, --home, "$(HOME)"]}',
    ),
    Rule(
        "background", Layer.LINT, "a program that is told to go into the background",
        "What goes into the background ends at once for whoever started it, so it is started again and again.",
        "Leave the option out: keeping it in the background is this program's work.",
        wrong="template: {command: [redis-server, --daemonize, yes]}",
        right="template: {command: [redis-server]}",
    ),
    Rule(
        "plain-secret", Layer.LINT, "a secret in plain sight",
        "Manifests are in repositories, and command lines in the list of processes.",
        "Keep it in a file and refer to it (valueFrom): only the reference is ever stored or shown.",
        wrong="template: {command: [serve], env: [{name: API_TOKEN, value: s3cr3t}]}",
        right="template: {command: [serve], env: [{name: API_TOKEN, valueFrom: {file: /etc/shop/token}}]}",
    ),
    Rule(
        "stop-signal", Layer.LINT, "a stop signal that does not ask a program to end",
        "SIGKILL cannot be caught, so nothing is finished or put away; others end no program, so each is killed later.",
        "Take SIGTERM, SIGINT or SIGQUIT.",
        wrong="template: {command: [serve], stop: {signal: SIGKILL}}",
        right="template: {command: [serve], stop: {signal: SIGTERM}}",
    ),
    Rule(
        "ephemeral-port", Layer.LINT, "a port that the kernel may hand to somebody else",
        "Outgoing connections get ports from 32768 to 60999: the port may be taken just when a worker starts again.",
        "Take one below 32768.",
        wrong="template: {command: [serve], ports: [{name: http, base: 40000}]}",
        right="template: {command: [serve], ports: [{name: http, base: 9000}]}",
    ),
    Rule(
        "no-effect", Layer.LINT, "a field that changes nothing where it stands",
        "Somebody will believe that it does.",
        "Remove it, or change what makes it idle.",
        wrong="restart: {policy: Never, maxRestarts: 3}",
        right="restart: {policy: OnFailure, maxRestarts: 3}",
    ),
    Rule(
        "decimal-size", Layer.LINT, "a size in powers of 1000",
        "1G is 10^9 bytes, 7 % less than 1Gi, which is what memory is counted in.",
        "Write Ki, Mi, Gi.",
        wrong="template: {command: [serve], logs: {maxSize: 10M}}",
        right="template: {command: [serve], logs: {maxSize: 10Mi}}",
    ),
    Rule(
        "leading-zero", Layer.LINT, "a number that looks octal and is not",
        "In YAML 1.2 010 is ten; older readers took it for eight.",
        "Write it without the zero, or with 0o.",
        wrong="replicas: 010",
        right="replicas: 10",
    ),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.id: rule for rule in (*_FILE, *_TEMPLATE, *_SYNTAX, *_SCHEMA, *_SEMANTICS, *_LINT)}


def as_file(example: str) -> str:
    """An example as a file that can be loaded: lines of a spec get the rest of a Pool around them."""
    if example.startswith(("apiVersion", "#")):
        return example + "\n"
    head = "apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec:\n"
    if "template:" not in example:
        head += "  template: {command: [sleep, inf]}\n"
    return head + "".join(f"  {line}\n" for line in example.splitlines())
