insert into ops.screens_log (event_id, happened_at, reader, role, event, customer_id, detail)
values (?, ?, ?, ?, ?, ?, ?)
