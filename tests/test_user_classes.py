"""Classes in lifted code: objects made inside a transformed function, and all that Python's classes can do."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import enum
import functools
import operator
import typing
from dataclasses import dataclass, field

import numpy as np
import pytest

import bindrune as br
from user_programs import POINT, Program, agrees, collected, lanes_agree

PROGRAMS: list[Program] = []
WITHOUT_LANES: list[Program] = []
"""Programs that ask for one boolean, or write arrays that all lanes share."""
program = collected(PROGRAMS)
without_lanes = collected(WITHOUT_LANES)


class Model:
    scale = np.array([1.0, 2.0, 3.0])
    made = 0

    def __init__(self, n):
        self.buf = np.zeros(n)
        type(self).made += 1

    def add(self, i, v):
        self.buf[i] += v

    def total(self):
        return np.sum(self.buf * self.scale)


@program
def an_object_is_made(x):
    model = Model(3)
    model.add(0, x[0] * x[1])
    model.add(2, x[2])
    return model.total()


@program
def methods_are_passed_on(x):
    model = Model(3)
    add_first = functools.partial(model.add, 0)
    add_first(x[0])
    operator.methodcaller("add", 1, x[1])(model)
    return model.total() + operator.attrgetter("buf")(model)[0] * x[2]


class Base(abc.ABC):
    def __init__(self, k):
        self.k = k
        self.history = []

    @abc.abstractmethod
    def step(self, v): ...

    def run(self, v):
        out = np.empty(len(v))
        for i, e in enumerate(v):
            out[i] = self.step(e)
            self.history.append(out[i])
        return out


class Child(Base):
    def __init__(self, k, b):
        super().__init__(k)
        self.b = b

    def step(self, v):
        return self.k * v**2 + self.b

    def run(self, v):
        found = super().run(v)
        found[0] *= 2
        return found


@program
def inheritance(x):
    child = Child(2.0, x[0])
    assert isinstance(child, Base)
    assert type(child) is Child
    assert child.__class__ is Child
    assert issubclass(type(child), Base)
    with pytest.raises(TypeError, match="abstract"):
        Base(1.0)
    return child.run(x).sum() + child.history[1] * 3


class Old:
    def __init__(self, v):
        self.v = np.full(2, v)

    def value(self):
        return self.v.sum()


class Older(Old):
    def __init__(self, v):
        super(Older, self).__init__(v)  # noqa: UP008
        Old.__init__(self, v * 2)

    def value(self):
        return super(Older, self).value() * 2  # noqa: UP008


class Left(Older):
    def value(self):
        return super().value() + 1


class Right(Older):
    def value(self):
        z = np.zeros(1)
        z[0] = super().value()
        return z[0] * 3


class Diamond(Left, Right):
    pass


@program
def a_diamond(x):
    return Diamond(x[0]).value() * Left(x[1]).value()


@dataclass
class Pair:
    x: float
    y: float
    tags: list = field(default_factory=list)

    def norm(self):
        out = np.zeros(2)
        out[0] = self.x
        out[1] = self.y
        return np.sqrt(np.sum(out**2))

    def __add__(self, other):
        return Pair(self.x + other.x, self.y + other.y)

    def __mul__(self, s):
        return Pair(self.x * s, self.y * s)


@program
def dataclasses_are_made(x):
    p = Pair(x[0], x[1]) + Pair(x[2], 1.0) * x[0]
    q = dataclasses.replace(p, x=x[1])
    match q:
        case Pair(x=a, y=b):
            return p.norm() + q.norm() + a * b


@dataclass(frozen=True)
class Frozen:
    a: typing.Any
    b: float = 2.0

    def __post_init__(self):
        object.__setattr__(self, "c", np.zeros(2))

    @property
    def area(self):
        self.c[0] = self.a * self.b
        return self.c.sum()

    @classmethod
    def unit(cls, v):
        return cls(v, 3.0)

    @staticmethod
    def copied(v):
        out = np.zeros(1)
        out[0] = v
        return out.sum()


@program
def frozen_dataclasses(x):
    return Frozen.unit(x[0]).area * Frozen(x[1]).area + Frozen.copied(x[2]) + Frozen(x[0]).copied(x[1])


@dataclass(slots=True)
class Slotted:
    a: typing.Any
    b: typing.Any = None

    def product(self):
        z = np.zeros(2)
        z[0] = self.a
        z[1] = self.b if self.b is not None else 1.0
        return z.prod()

    def put(self, v):
        self.b = v


SLOTTED = Slotted(np.float64(2.0))


@program
def slots(x):
    SLOTTED.put(x[1])
    found = SLOTTED.product() * x[0]
    SLOTTED.b = None
    return found + Slotted(x[0], x[2]).product()


class Vector:
    __slots__ = ("data",)

    def __init__(self, data):
        self.data = np.asarray(data)

    def __add__(self, other):
        return Vector(self.data + (other.data if isinstance(other, Vector) else other))

    __radd__ = __add__

    def __matmul__(self, other):
        total = np.zeros(1)
        for a, b in zip(self.data, other.data, strict=True):
            total[0] += a * b
        return total[0]

    def __getitem__(self, i):
        return self.data[i]

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        return iter(self.data)

    def __neg__(self):
        return Vector(-self.data)

    def __call__(self, v):
        z = np.zeros(1)
        z[0] = v
        return z * self.data.sum()

    def __abs__(self):
        z = np.zeros(1)
        z[0] = self @ self
        return np.sqrt(z[0])


@program
def special_methods(x):
    v, w = Vector(x), Vector([1.0, x[0], 3.0])
    return (v @ w) + (v + w)[1] ** 2 + abs(-v) + sum(v) + v(x[2])[0] + len(v) + (x[0] + v)[0]


class Point(typing.NamedTuple):
    a: typing.Any
    b: typing.Any

    def product(self):
        z = np.zeros(2)
        z[0] = self.a
        z[1] = self.b
        return z.prod()


@program
def named_tuples(x):
    p = Point(x[0], x[1])
    a, b = p
    return p.product() + a * b + p._replace(a=x[2]).product()


class Phase(typing.NamedTuple):
    q: typing.Any
    p: typing.Any

    def energy(self):
        z = np.zeros(1)
        z[0] = (self.p**2).sum() / 2 + (self.q**2).sum() / 2
        return z[0]

    def leap(self, h):
        p = self.p - h / 2 * br.grad(lambda q: Phase(q, self.p).energy())(self.q)
        return self._replace(p=p, q=self.q + h * p)


@program
def derivatives_of_named_tuples(x):
    state = Phase(x, np.zeros(3))
    for _ in range(3):
        state = state.leap(0.1)
    gradient = br.grad(lambda s: s.energy())(state)
    assert type(gradient) is Phase
    return state.q.sum() + gradient.p.sum()


class Colour(enum.Enum):
    RED = 1
    BLUE = 2

    def weigh(self, v):
        return v * self.value


@program
def enumerations(x):
    blue = Colour.BLUE
    assert blue is Colour(2)
    assert isinstance(blue, Colour)
    return blue.weigh(x[0]) + {Colour.RED: x[1], Colour.BLUE: x[2]}[blue]


class Meta(type):
    made: typing.ClassVar = []

    def __new__(mcls, name, bases, namespace):
        mcls.made.append(name)
        return super().__new__(mcls, name, bases, namespace)

    def __call__(cls, *arguments):
        found = super().__call__(*arguments)
        found.tag = cls.__name__
        return found


class WithMeta(metaclass=Meta):
    def __init__(self, v):
        self.z = np.zeros(1)
        self.z[0] = v


@program
def metaclasses(x):
    made = WithMeta(x[0])
    assert made.tag == "WithMeta"
    assert Meta.made == ["WithMeta"]
    return made.z.sum() ** 2


class Doubled:
    def __set_name__(self, owner, name):
        self.name = f"_{name}"

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        z = np.zeros(1)
        z[0] = getattr(instance, self.name)
        return z[0]

    def __set__(self, instance, value):
        setattr(instance, self.name, value * 2)


class Described:
    a = Doubled()

    def __init__(self, a):
        self.a = a

    @functools.cached_property
    def once(self):
        z = np.zeros(1)
        z[0] = self.a
        return z

    @property
    def p(self):
        return self._p

    @p.setter
    def p(self, v):
        self._p = np.zeros(1)
        self._p[0] = v

    @functools.singledispatchmethod
    def times(self, k):
        return k * self.a

    @times.register
    def _(self, k: int):
        z = np.zeros(1)
        z[0] = k * self.a
        return z[0]

    half = functools.partialmethod(lambda self, k: np.full(1, self.a * k)[0], 0.5)


@program
def descriptors(x):
    made = Described(x[0])
    made.p = x[1]
    made.once[0] += x[1]
    return made.a * made.once[0] * made.p[0] + made.times(3) + made.times(x[2]) + made.half()


T = typing.TypeVar("T")


class Boxed(typing.Generic[T]):
    def __init__(self, v):
        self.z = np.zeros(1)
        self.z[0] = v


class Halving:
    def half(self):
        z = np.zeros(1)
        z[0] = self.v / 2
        return z[0]


class Runs(typing.Protocol):
    def run(self, v): ...


class Mixed(Halving, Runs):
    def __init__(self, v):
        self.v = v

    def run(self, v):
        return self.half() * v


@program
def generics_mixins_and_protocols(x):
    return Boxed[float](x[0]).z[0] * Boxed(x[1]).z[0] + Mixed(x[2]).run(x[0])


class Items(list):
    def total(self):
        z = np.zeros(1)
        for v in self:
            z[0] += v
        return z[0]


class Named(dict):
    def total(self):
        z = np.zeros(1)
        for v in self.values():
            z[0] += v
        return z[0]


@program
def subclasses_of_containers(x):
    items = Items(x)
    items.append(x[0])
    named = Named(a=x[1])
    named["b"] = x[2]
    return items.total() * named.total()


class Made:
    def __new__(cls, *arguments):
        made = super().__new__(cls)
        made.z = np.zeros(1)
        return made

    def __init__(self, v):
        self.z[0] = v

    @classmethod
    def empty(cls):
        return cls.__new__(cls)


@program
def objects_without_init(x):
    return Made(x[0]).z[0] ** 2 + Made.empty().z[0] + x[1]


class Three:
    def __init__(self, v):
        self.v, self.i, self.b = v, 0, np.zeros(1)

    def __iter__(self):
        return self

    def __next__(self):
        if self.i == 3:
            raise StopIteration
        self.b[0] = self.v[self.i]
        self.i += 1
        return self.b[0] * 2


@program
def iterators(x):
    return sum(Three(x)) + [v for v in Three(x)][1] + sum(map(operator.mul, Three(x), x))  # noqa: C416


class Dynamic:
    def __init__(self, named):
        self.__dict__["named"] = named

    def __getattr__(self, name):
        try:
            return self.named[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name, value):
        self.named[name] = np.full(1, value)


@program
def dynamic_attributes(x):
    made = Dynamic({"a": x[0]})
    made.b = x[1]
    assert not hasattr(made, "c")
    return made.a * made.b[0]


class Scope(contextlib.ContextDecorator):
    def __enter__(self):
        self.z = np.zeros(2)
        return self

    def __exit__(self, *error):
        return False

    def put(self, i, v):
        self.z[i] = v


@program
def context_managers(x):
    with Scope() as scope:
        scope.put(0, x[0])
        scope.put(1, x[1] * x[2])

    @Scope()
    def squared(v):
        return v * v

    return scope.z.prod() + squared(x[1])


class Shape(abc.ABC):
    registry: typing.ClassVar = {}

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        assert cls.__name__ not in Shape.registry
        Shape.registry[cls.__name__] = cls

    @property
    @abc.abstractmethod
    def area(self): ...

    @classmethod
    def make(cls, name, *arguments):
        return cls.registry[name](*arguments)

    @staticmethod
    def square(v):
        z = np.zeros(1)
        z[0] = v * v
        return z[0]


class Circle(Shape):
    def __init__(self, r):
        self.r = r

    @property
    def area(self):
        return np.pi * self.square(self.r)


class Square(Shape):
    def __init__(self, r):
        self.r = r

    @property
    def area(self):
        return Shape.square(self.r)


PERIMETERS = {Circle: lambda c: np.full(2, c.r).sum() * np.pi, Square: lambda c: c.r * 4}


@program
def registries_and_tables_of_classes(x):
    shapes = [Shape.make("Circle", x[0]), Shape.make("Square", x[1]), Circle(x[2])]
    assert isinstance(shapes[0], Shape)
    assert not isinstance(shapes[1], Circle)
    assert {c.__name__ for c in Shape.__subclasses__()} == {"Circle", "Square"}
    return sum(s.area for s in shapes) + sum(PERIMETERS[type(s)](s) for s in shapes)


class Tracked:
    count = 0
    table = np.zeros(2)

    def __init__(self):
        Tracked.count += 1

    def go(self, v):
        self.table[0] = v
        Tracked.table[1] = v * v
        found = self.table.sum()
        self.table[:] = 0.0
        return found


@without_lanes
def class_attributes(x):
    before = Tracked.count
    found = Tracked().go(x[0]) + Tracked().go(x[1])
    assert Tracked.count == before + 2
    return found


@program
def a_local_class(x):
    class Total:
        def __init__(self):
            self.t = np.zeros(2)

        def push(self, v):
            self.t[0] += v
            self.t[1] = v
            return self

    class Derived(Child):
        def step(self, v):
            return super().step(v) * x[0]

    assert issubclass(Derived, Base)
    return np.prod(Total().push(x[0]).push(x[1]).t) + Derived(1.0, 2.0).run(x).sum()


@pytest.mark.parametrize("f", PROGRAMS + WITHOUT_LANES, ids=lambda f: f.__name__)
def test_derivatives_agree_with_differences(f):
    agrees(f)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_lanes_agree_with_a_loop(f):
    lanes_agree(f)


def test_classes_are_not_told_of_their_lifted_ones():
    br.grad(an_object_is_made)(POINT)
    assert Model.__subclasses__() == []
    assert {c.__name__ for c in Shape.__subclasses__()} == {"Circle", "Square"}
    assert type(Child(1.0, 2.0)).__mro__ == (Child, Base, abc.ABC, object)
