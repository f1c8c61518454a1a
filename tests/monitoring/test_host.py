"""How busy the machine is, from two looks at /proc/stat."""

from __future__ import annotations

from pathlib import Path

from reconciler.monitoring.host import HostCpu


class Machine:
    """A file as the kernel writes it: user nice system idle iowait irq softirq steal guest guest_nice."""

    def __init__(self, path: Path) -> None:
        self.path, self.now_s, self.busy, self.idle = path, 1000.0, 5000, 90_000
        self.cpu = HostCpu(lambda: self.now_s, path)
        self.work(0, 0)

    def work(self, busy: int, idle: int, seconds: float = 10.0) -> float | None:
        self.now_s, self.busy, self.idle = self.now_s + seconds, self.busy + busy, self.idle + idle
        waits = self.idle // 10
        self.path.write_text(f"cpu  {self.busy} 0 0 {self.idle - waits} {waits} 0 0 0 77 0\ncpu0 1 2 3\n")
        return self.cpu.percent()


def test_it_is_the_share_of_ticks_that_were_not_idle(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "stat")

    assert machine.work(750, 250) == 75.0
    assert machine.work(0, 1000) == 0.0
    assert machine.work(1000, 0) == 100.0


def test_the_first_look_and_one_after_a_long_time_say_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "stat")

    assert HostCpu(lambda: 5.0, machine.path).percent() is None
    assert machine.work(10, 90, seconds=3600) is None
    assert machine.work(10, 90) == 10.0


def test_a_second_look_within_a_second_gives_the_first_ones_answer(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "stat")
    machine.work(10, 90)

    assert machine.work(90, 10, seconds=0.1) == 10.0


def test_this_machine_can_be_read() -> None:
    moments = iter((10.0, 12.0))
    cpu = HostCpu(lambda: next(moments))
    cpu.percent()
    found = cpu.percent()
    assert found is None or 0 <= found <= 100
