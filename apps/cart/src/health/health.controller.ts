import { Controller, Get, type OnModuleDestroy, ServiceUnavailableException } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import {
  HealthCheck,
  HealthCheckService,
  TypeOrmHealthIndicator,
  type HealthCheckResult,
} from '@nestjs/terminus';

@ApiTags('health')
@Controller('health')
export class HealthController implements OnModuleDestroy {
  #isStopping = false;

  constructor(
    private readonly health: HealthCheckService,
    private readonly database: TypeOrmHealthIndicator,
  ) {}

  onModuleDestroy(): void {
    this.#isStopping = true;
  }

  /** 200 while the database answers and the process is not about to end, 503 otherwise. */
  @Get()
  @HealthCheck()
  async check(): Promise<HealthCheckResult> {
    if (this.#isStopping) throw new ServiceUnavailableException('shutting down');
    return this.health.check([async () => this.database.pingCheck('database', { timeout: 2_000 })]);
  }
}
