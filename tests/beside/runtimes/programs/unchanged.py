"""A program with greenlets of gevent that knows of no cache."""

from gevent import monkey

monkey.patch_all()

from asking import ask
from gevent.pool import Pool

print(len(set(Pool(6).map(ask, ["a", "b", "a", "b", "a", "c"]))))
