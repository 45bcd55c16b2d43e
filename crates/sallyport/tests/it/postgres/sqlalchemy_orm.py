"""What programs do with SQLAlchemy's ORM, and what a tool with windows asks the catalogue, through the gateway;
prints `done` when all of it worked."""

from sqlalchemy import ForeignKey, create_engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Work(Base):
    __tablename__ = "work"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    parts: Mapped[list["Part"]] = relationship(back_populates="work", cascade="all, delete-orphan")


class Part(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    work_id: Mapped[int] = mapped_column(ForeignKey("work.id"))
    name: Mapped[str]
    work: Mapped[Work] = relationship(back_populates="parts")


# libpq's environment says where; the pool pings a connection before it gives it out.
engine = create_engine("postgresql+psycopg://", pool_size=3, pool_pre_ping=True)
Base.metadata.create_all(engine)

with Session(engine) as session:
    for number in range(40):
        parts = [Part(name=f"part {number}.{part} né") for part in range(3)]
        session.add(Work(title=f"work {number}", parts=parts))
    session.commit()

with Session(engine) as session:
    query = select(Work).where(Work.title.like("work 1%")).options(selectinload(Work.parts)).order_by(Work.id)
    found = session.scalars(query).all()
    assert len(found) == 11 and all(len(work.parts) == 3 for work in found), found
    found[0].title = "renamed"
    session.delete(found[1])
    session.commit()
    counted = session.execute(select(func.count(Work.id), func.count(func.distinct(Part.work_id))).join(Part)).one()
    assert counted == (117, 39), counted

# An error in a nested transaction is rolled back to its savepoint, and the outer one goes on.
with Session(engine) as session:
    try:
        with session.begin_nested():
            session.add(Work(title="renamed"))
            session.flush()
        raise AssertionError("the same title twice")
    except IntegrityError:
        pass
    session.add(Work(title="after the error"))
    session.commit()
    assert session.scalar(select(func.count(Work.id))) == 40

# Rows fetched in parts by a cursor of the server's.
with engine.connect() as connection:
    rows = connection.execution_options(yield_per=10).execute(select(Part.id).order_by(Part.id))
    assert sum(1 for _ in rows) == 117

# What a tool with windows shows of a database.
catalogue = inspect(engine)
assert {"item", "work", "part"} <= set(catalogue.get_table_names())
assert [column["name"] for column in catalogue.get_columns("part")] == ["id", "work_id", "name"]
assert catalogue.get_foreign_keys("part")[0]["referred_table"] == "work"
assert catalogue.get_pk_constraint("work")["constrained_columns"] == ["id"]
assert catalogue.get_unique_constraints("work")[0]["column_names"] == ["title"]
assert catalogue.get_view_names() == []
with engine.connect() as connection:
    assert connection.execute(text("SHOW server_version")).scalar()
    assert connection.execute(text("SELECT datname FROM pg_database WHERE datallowconn")).all()
    assert "Seq Scan" in connection.execute(text("EXPLAIN SELECT * FROM item")).scalar()

Base.metadata.tables["part"].drop(engine)
engine.dispose()
print("done")
