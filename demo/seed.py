"""`python -m demo.seed`: makes the tables and the first orders. There already: does nothing."""

from __future__ import annotations

from sqlalchemy import select, text

from demo.app import create_app
from demo.models import Order, db
from demo.writers import FIRST_ROWS


def seed() -> None:
    with create_app().app_context():
        db.create_all()
        if db.session.scalar(select(Order.id).limit(1)) is None:
            db.session.execute(text(FIRST_ROWS))
            db.session.commit()


if __name__ == "__main__":
    seed()
