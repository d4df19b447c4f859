# Answers `GET /?QUERY` with the query; PORT and WORKERS come from the environment.

bind "tcp://127.0.0.1:#{ENV.fetch("PORT")}?backlog=4096"
workers Integer(ENV.fetch("WORKERS"))
threads 8, 8
quiet
raise_exception_on_sigterm false
on_worker_boot { $stdout.syswrite("ready\n") }
app do |env|
  query = env["QUERY_STRING"]
  [200, { "content-length" => query.bytesize.to_s }, [query]]
end
